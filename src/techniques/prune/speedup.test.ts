import fc from "fast-check";
import { expect, test } from "vitest";
import type { Group } from "../../transform/groups.ts";
import { nearby, reach, type Speedup } from "./speedup.ts";

const exact = (value: number): Speedup => ({ value, interval: [value, value] });

/** Predicted speed-ups of nets that get narrower by equal parts of the whole. */
const even = (count: number) => Array.from({ length: count }, (_, i) => 1 / (1 - (0.9 * (i + 1)) / count));

/** Numbers in 0 … 1, and normal ones. */
function chance(seed: number) {
  let state = seed * 2654435761 + 1;
  const next = () => {
    state = (Math.imul(state ^ (state >>> 15), 739982445) + 1013904223) | 0;
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 8; i++) next();
  return { next, normal: () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()) };
}

test("with an exact clock the least narrowed net at the target is found, to a little, in few measurements", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 300 }),
      fc.double({ min: 1.05, max: 4, noNaN: true }),
      fc.double({ min: 0.5, max: 1.5, noNaN: true }),
      async (count, target, power) => {
        const predicted = even(count);
        const speed = (net: number) => (net ? predicted[net - 1]! ** power : 1);
        let timed = 0;
        const found = (await reach(predicted, target, async (net) => {
          timed++;
          expect(net).toBeGreaterThanOrEqual(1);
          expect(net).toBeLessThanOrEqual(count);
          return exact(speed(net));
        }))!;
        expect(timed).toBeLessThanOrEqual(24);
        expect(found.met).toBe(speed(count) >= target);
        if (!found.met) return;
        expect(found.speedup.value).toBeGreaterThanOrEqual(target);
        // No further than a step of the search, or of the nets.
        expect(Math.min(speed(found.net) / (target * 1.04), speed(found.net - 1) / target)).toBeLessThan(1);
      },
    ),
  );
});

test.each([
  { looks: 0.03, thorough: 0.015, told: 1, bumps: 0 },
  { looks: 0.03, thorough: 0.03, told: 1, bumps: 0 },
  { looks: 0.03, thorough: 0.015, told: 0.5, bumps: 0 },
  { looks: 0.03, thorough: 0.015, told: 1, bumps: 0.01 },
])("a noisy clock does not fool it: $looks in a look, $thorough thorough, intervals $told of it, bumps of $bumps", async (noise) => {
  const target = 1.25;
  const speeds: number[] = [];
  let timed = 0;
  for (let seed = 1; seed <= 200; seed++) {
    const { next, normal } = chance(seed);
    const predicted = even(300);
    // Time falls by less than what is predicted, by more, or as much.
    const share = 0.6 + 0.6 * next();
    const truth = predicted.map((p) => (1 / (1 - share * (1 - 1 / p))) * Math.exp(noise.bumps * normal()));
    const found = (await reach(predicted, target, async (net, thorough) => {
      timed++;
      const deviation = thorough ? noise.thorough : noise.looks;
      const value = truth[net - 1]! * Math.exp(deviation * normal());
      const half = 1.96 * deviation * noise.told * (0.7 + 0.6 * next());
      return { value, interval: [value * Math.exp(-half), value * Math.exp(half)] };
    }))!;
    speeds.push(truth[found.net - 1]! / target);
  }
  expect(timed / 200).toBeLessThan(18);
  expect(speeds.filter((s) => s >= 0.99 && s <= 1.04).length).toBeGreaterThanOrEqual(184);
  expect(Math.min(...speeds)).toBeGreaterThan(0.96);
  expect(Math.max(...speeds)).toBeLessThan(1.08);
});

test("one look far off neither ends the search nor bounds it", async () => {
  for (const wrong of [0.8, 1.3]) {
    const predicted = even(200);
    let timed = 0;
    const found = (await reach(predicted, 1.5, async (net) => exact(predicted[net - 1]! * (timed++ === 0 ? wrong : 1))))!;
    expect(predicted[found.net - 1]).toBeGreaterThan(1.48);
    expect(predicted[found.net - 1]).toBeLessThan(1.58);
  }
});

test("out of reach, the fastest one measured is told, and that it is not met", async () => {
  const found = await reach(even(40), 3, async (net) => exact(1 + Math.sin((Math.PI * net) / 40) / 4));
  expect(found!.met).toBe(false);
  expect(found!.speedup.value).toBeCloseTo(1.25, 1);
  expect(await reach([], 2, async () => exact(9))).toBeNull();
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
