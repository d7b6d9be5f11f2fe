/** pith show --groups: which channels go together, and what keeps others. */
import { count } from "../report/format.ts";
import { type Column, table } from "../report/table.ts";
import { sizeOf } from "../tensor/dtype.ts";
import type { Group } from "../transform/groups.ts";

/** Elements of initializers that lie on a group. */
function parametersOf(group: Group): number {
  const rest = new Map<Group["members"][number]["value"], number>();
  for (const { value, coordinate } of group.members) {
    const on = coordinate.reduce((n, c) => n + (c < 0 ? 0 : 1), 0) / coordinate.length;
    rest.set(value, (rest.get(value) ?? 1) * (1 - on));
  }
  return [...rest].reduce((n, [value, outside]) => n + Math.round(sizeOf(value.data!.shape) * (1 - outside)), 0);
}

const memberNames = (g: Group) => g.members.map((m) => `${m.value.name}[${m.axis}]`);

export function groupsJson(groups: readonly Group[]) {
  return groups.map((g) => ({
    name: g.name,
    channels: g.size,
    parameters: parametersOf(g),
    frozen: g.frozen,
    inexact: g.inexact,
    members: g.members.map(({ value, axis, role }) => ({ name: value.name, axis, role })),
  }));
}

const columns: readonly Column[] = [
  { title: "group" },
  { title: "channels", align: "right" },
  { title: "parameters", align: "right" },
  { title: "members", align: "right" },
  { title: "" },
];

/** Names that a row shows. */
const shown = 3;
const cut = (text: string, length: number) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

/** @param all list frozen groups too, instead of one line for each reason */
export function groupsText(groups: readonly Group[], all: boolean): string {
  const free = groups.filter((g) => !g.frozen);
  const rows = (list: readonly Group[]) =>
    list.map((g) => {
      const names = memberNames(g);
      const more = names.length > shown ? ` … ${names.length - shown} more` : "";
      return [cut(g.name, 48), String(g.size), count(parametersOf(g)), String(names.length), `${names.slice(0, shown).join(" ")}${more}`];
    });
  const lines = [
    `${free.length} ${free.length === 1 ? "group" : "groups"} of channels can be pruned, ${groups.length - free.length} cannot`,
    ...(free.length ? ["", table(columns, rows(free))] : []),
  ];
  const changing = free.filter((g) => g.inexact);
  if (changing.length)
    lines.push(
      "",
      "removing channels changes the others' outputs even where all their weights are zero:",
      ...changing.map((g) => `  ${g.name}: ${g.inexact}`),
    );
  const frozen = new Map<string, Group[]>();
  for (const g of groups) if (g.frozen) frozen.set(g.frozen, [...(frozen.get(g.frozen) ?? []), g]);
  if (frozen.size) lines.push("", "kept whole:");
  for (const [why, list] of frozen) {
    const of = list.length === 1 ? list[0]!.name : `${list.length} axes, such as ${list[0]!.name}`;
    lines.push(`  ${why}: ${all ? list.map((g) => g.name).join(" ") : of}`);
  }
  return lines.join("\n");
}
