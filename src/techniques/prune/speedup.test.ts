import fc from "fast-check";
import { expect, test } from "vitest";
import type { Group } from "../../transform/groups.ts";
import { nearby, reach, type Speedup } from "./speedup.ts";

const exact = (value: number): Speedup => ({ value, interval: [value, value] });

test("the first net that is fast enough is found in few looks", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 300 }),
      fc.double({ min: 1, max: 4, noNaN: true }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      async (count, target, guess) => {
        const speed = (net: number) => 1 + (3 * net) / count;
        const timed: number[] = [];
        const found = (await reach(count, target, Math.round(guess * count), async (net, thorough) => {
          if (!thorough) timed.push(net);
          expect(net).toBeGreaterThanOrEqual(1);
          expect(net).toBeLessThanOrEqual(count);
          return exact(speed(net));
        }))!;
        expect(timed.length).toBeLessThanOrEqual(8);
        expect(found.met).toBe(speed(count) >= target);
        if (found.met) {
          expect(found.speedup.value).toBeGreaterThanOrEqual(target);
          // Not much further than needed.
          expect(speed(found.net)).toBeLessThanOrEqual(
            target * 1.03 + (3 * (Math.max(1, Math.round(count / 64)) + 1)) / count + 3 / 2 ** 7,
          );
        }
      },
    ),
  );
});

test("what a look promised and a thorough measurement does not keep is gone past", async () => {
  const found = await reach(100, 1.5, 50, async (net, thorough) => {
    const value = 1 + net / 100;
    return thorough ? { value: value - 0.05, interval: [value - 0.1, value] } : exact(value);
  });
  expect(found!.met).toBe(true);
  expect(found!.net).toBeGreaterThanOrEqual(55);
  expect(found!.net).toBeLessThan(62);
  expect(found!.speedup.value).toBeGreaterThanOrEqual(1.5);
});

test("out of reach, the fastest one measured is told, and that it is not met", async () => {
  const found = await reach(40, 3, 20, async (net) => exact(1 + Math.sin((Math.PI * net) / 40) / 4));
  expect(found!.met).toBe(false);
  expect(found!.speedup.value).toBeCloseTo(1.25, 1);
  expect(await reach(0, 2, 1, async () => exact(9))).toBeNull();
});

test("widths nearby are multiples of 8, 16 and 32, each once, and neither wider than before nor those given", () => {
  const group = (name: string, size: number): Group => ({
    name,
    size,
    frozen: null,
    inexact: null,
    members: [
      {
        value: { shape: [size, 1, 3, 3], uses: new Set() } as never,
        axis: 0,
        coordinate: Int32Array.from({ length: size }, (_, i) => i),
        role: "out",
      },
    ],
  });
  const groups = [group("a", 64), group("b", 20), group("c", 4)];
  const candidates = groups.map((g) => ({ group: g, importance: new Float64Array(g.size), multiple: 1, least: 1 }));
  const given = new Map([
    [groups[0]!, 45],
    [groups[1]!, 11],
    [groups[2]!, 3],
  ]);
  const near = nearby(candidates, given).map((n) => [n.multiple, ...groups.map((g) => n.sizes.get(g))]);
  expect(near).toContainEqual([8, 48, 8, 4]);
  expect(near).toContainEqual([8, 40, 8, 4]);
  expect(near).toContainEqual([16, 48, 16, 4]);
  expect(near).toContainEqual([32, 32, 20, 4]);
  for (const [m, ...sizes] of near)
    sizes.forEach((s, i) => {
      expect(s! <= groups[i]!.size && (s! % m! === 0 || s === groups[i]!.size)).toBe(true);
    });
  expect(new Set(near.map(([, ...s]) => `${s}`)).size).toBe(near.length);
});
