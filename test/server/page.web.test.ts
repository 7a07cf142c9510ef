import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chromiumPath, launchChromium, noChromium } from "./support/chromium.ts";
import { numAborted, type SimulatedServer, startSimulated } from "./support/simulatedServer.ts";

describe.skipIf(chromiumPath === undefined)(
  `the page at /${chromiumPath === undefined ? ` (${noChromium})` : ""}`,
  () => {
    let browser: Browser;
    let server: SimulatedServer;
    let page: Page;
    const problems: string[] = [];
    /** Steps that still run at once; those after them wait for `released`. */
    let numFreeSteps = Infinity;
    const released = Promise.withResolvers<undefined>();
    const beforeStep = async (): Promise<void> => {
      numFreeSteps -= 1;
      if (numFreeSteps < 0) await released.promise;
    };
    beforeAll(async () => {
      const options = { apiKeys: ["secret"] };
      server = await startSimulated({ numReplicas: 2, options, faults: () => ({ beforeStep }) });
      browser = await launchChromium();
      page = await browser.newPage();
      page.on("pageerror", (error) => problems.push(error.message));
      await page.goto(server.url);
    });
    afterAll(async () => {
      await browser.close();
      await server.stop();
    });

    test("without the key it says why nothing is shown; with it, it connects by itself", async () => {
      await page.waitForFunction(() => document.body.innerText.includes("Incorrect or missing"));
      await page.getByLabel("API key").fill("secret");
      await page.waitForFunction(() => document.body.innerText.includes("Connected."));
      expect(await page.locator("#model").innerText()).toContain("sim, f32");
    });

    test("shows every replica, rank and device, and the KV cache as a meter", async () => {
      expect(await page.getByRole("table").count()).toBe(2);
      expect(await page.getByRole("table").first().innerText()).toMatch(
        /Replica 0: ready.*0 of 4 running.*0 of 1024 tokens/s,
      );
      expect(await page.getByRole("cell", { name: "0 simulated" }).count()).toBe(2);
      expect(await page.getByRole("meter").count()).toBe(2);
    });

    test("completes a prompt, streaming, and says how fast", async () => {
      await page.getByLabel("Prompt").fill("Once upon a time");
      await page.getByRole("spinbutton", { name: "Tokens" }).fill("30");
      await page.getByRole("button", { name: "Generate" }).click();
      await page.waitForFunction(() => document.body.innerText.includes("30 tokens, the first"));
      expect(await page.locator("#answer").innerText()).toMatch(/^Once upon a time./);
    });

    test("chats: both sides stay in view, and the next turn sees them", async () => {
      await page.getByLabel("Chat").check();
      await page.getByLabel("Prompt").fill("Hello there");
      await page.getByRole("button", { name: "Generate" }).click();
      await page.waitForFunction(() => document.querySelectorAll(".message").length === 2);
      expect(await page.locator("#conversation").innerText()).toContain("user: Hello there");
    });

    test("stops when asked, and the server stops too", async () => {
      numFreeSteps = 8;
      await page.getByLabel("Completion").check();
      await page.getByLabel("Prompt").fill("Once");
      await page.getByRole("spinbutton", { name: "Tokens" }).fill("240");
      await page.getByRole("button", { name: "Generate" }).click();
      await page.waitForFunction(() => document.querySelector("#answer")?.textContent !== "");
      await page.getByRole("button", { name: "Stop" }).click();
      await page.waitForFunction(() => document.body.innerText.includes("Stopped."));
      await expect.poll(() => numAborted(server), { timeout: 10_000 }).toBe(1);
      released.resolve(undefined);
      await expect.poll(() => server.isIdle(), { timeout: 10_000 }).toBe(true);
    });

    test("every control has a name, and the scripts made no error", async () => {
      const unnamed = await page.evaluate(
        () =>
          [...document.querySelectorAll("input, textarea, button, meter")].filter(
            (element) =>
              (element as HTMLInputElement).labels?.length === 0 &&
              element.textContent === "" &&
              !element.hasAttribute("aria-label"),
          ).length,
      );
      expect([unnamed, problems]).toEqual([0, []]);
    });
  },
);
