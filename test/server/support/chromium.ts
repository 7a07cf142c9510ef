/** A real headless Chromium for page tests: an installed one, wherever the system keeps it. */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

const PATHS = [
  process.env["TANDEM_TEST_CHROMIUM"],
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

export const chromiumPath = PATHS.find((path) => path !== undefined && existsSync(path));
/** Shown beside a skipped test. */
export const noChromium = "no Chromium found: install one, or name it in TANDEM_TEST_CHROMIUM";

export async function launchChromium(): Promise<Browser> {
  return await chromium.launch({
    executablePath: chromiumPath ?? "",
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
  });
}
