import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { countGpus, countNumaNodes, readPciPlace } from "../../src/device/topologyNode.ts";

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

interface FakeDevice {
  readonly path: string; // below /sys/devices
  readonly class: string;
  readonly numaNode: number;
}

/** A /sys with these devices; `nodes` are the cores of each NUMA node. */
function fakeSys(devices: readonly FakeDevice[], nodes: readonly string[]): string {
  const root = mkdtempSync(join(tmpdir(), "tandem-sys-"));
  folders.push(root);
  const bus = join(root, "bus/pci/devices");
  mkdirSync(bus, { recursive: true });
  for (const { path, class: pciClass, numaNode } of devices) {
    const folder = join(root, "devices", path);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "class"), `${pciClass}\n`);
    writeFileSync(join(folder, "numa_node"), `${numaNode}\n`);
    symlinkSync(folder, join(bus, path.slice(path.lastIndexOf("/") + 1)));
  }
  for (const [node, cpus] of nodes.entries()) {
    const folder = join(root, `devices/system/node/node${node}`);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "cpulist"), `${cpus}\n`);
  }
  return root;
}

const gpu = { path: "pci0000:3a/0000:3a:01.0/0000:3b:00.0", class: "0x030200", numaNode: 1 };
const accelerator = {
  path: "pci0000:5a/0000:5a:01.0/0000:5b:00.0",
  class: "0x120000",
  numaNode: 0,
};
const disk = { path: "pci0000:3a/0000:3a:02.0/0000:3c:00.0", class: "0x010802", numaNode: 1 };

test("two sockets: GPUs are counted, and a GPU's place is its path, node and cores", () => {
  const root = fakeSys([gpu, accelerator, disk], ["0-15,32-47", "16-31,48-63"]);
  expect([countGpus(root), countNumaNodes(root)]).toEqual([2, 2]);
  expect(readPciPlace("0000:3b:00.0", root)).toEqual({
    path: ["pci0000:3a", "0000:3a:01.0", "0000:3b:00.0"],
    numaNode: 1,
    numaCpus: "16-31,48-63",
  });
});

test("one node has all cores, so there is none to prefer", () => {
  const root = fakeSys([{ ...gpu, numaNode: 0 }], ["0-7"]);
  expect(readPciPlace("0000:3b:00.0", root)).toMatchObject({ numaNode: 0, numaCpus: null });
});

test("what the machine does not say is null", () => {
  const root = fakeSys([{ ...gpu, numaNode: -1 }], ["0-7", "8-15"]);
  expect(readPciPlace("0000:3b:00.0", root)).toMatchObject({ numaNode: null, numaCpus: null });
  expect(readPciPlace("0000:99:00.0", root)).toBeNull();
  expect([countGpus("/no/such/folder"), countNumaNodes("/no/such/folder")]).toEqual([0, 1]);
});
