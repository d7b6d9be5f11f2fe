import { expect, test } from "vitest";
import { scheduled } from "./schedule.ts";

test("schedules start at nothing and end at the whole", () => {
  expect(scheduled("cubic", 0.9, 0, 10)).toBe(0);
  expect(scheduled("cubic", 0.9, 5, 10)).toBeCloseTo(0.9 * (1 - 0.125), 12);
  expect(scheduled("cubic", 0.9, 10, 10)).toBeCloseTo(0.9, 12);
  expect(scheduled("iterative", 0.9, 1, 2)).toBeCloseTo(1 - Math.sqrt(0.1), 12);
  expect(scheduled("iterative", 0.9, 2, 2)).toBeCloseTo(0.9, 12);
  expect(scheduled("oneshot", 0.9, 0, 1)).toBe(0.9);
});
