import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { random } from "./random.ts";
import { sha256 } from "./sha256.ts";

test("equals Node's digest at every length around the block size, however the data is cut", () => {
  const r = random(0, "sha256");
  const data = Uint8Array.from({ length: 1000 }, () => r.below(256));
  for (let n = 0; n <= 260; n++) {
    const cut = r.below(n + 1);
    const digest = createHash("sha256").update(data.subarray(0, n)).digest("hex");
    expect(sha256([data.subarray(0, cut), data.subarray(cut, n)])).toBe(digest);
  }
  const singles = Array.from(data, (_, i) => data.subarray(i, i + 1));
  expect(sha256(singles)).toBe(createHash("sha256").update(data).digest("hex"));
});
