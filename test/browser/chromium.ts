/** Where Chromium is, if anywhere, and how tests start it: without a network. */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

export const executablePath = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
  (p) => p && existsSync(p),
);

/** For a suite's title. */
export const skipped = executablePath ? "" : " (skipped: no Chromium found; set CHROMIUM to its path)";

export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: executablePath!,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}
