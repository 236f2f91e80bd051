/** Physical volumes as arguments: `p0.dsk`, `p2.dsk#p1:0-99:200-`, `@tag`. */
import { DiskError } from "../../../errors.js";
import type { PeRange } from "../../../lvm/allocate.js";
import type { PhysicalVolume } from "../../../lvm/metadata.js";
import type { FoundGroup } from "../../../lvm/scan.js";
import { canonicalName } from "../../../stack/lvm/devices.js";

/** Behind the name: ranges of extents, `:10`, `:10-20`, `:10-`, `:-20`, `:10+5`. */
const RANGES = /((?::(?:\d+(?:[-+]\d*)?|-\d+))+)$/;

/** Undefined without arguments: everything. Throws `NOT_FOUND` for what is no volume of the group. */
export function parsePvArguments(found: FoundGroup, given: readonly string[]): PeRange[] | undefined {
  return given.length === 0 ? undefined : given.flatMap((text) => parseOne(found, text));
}

function parseOne(found: FoundGroup, text: string): PeRange[] {
  if (text.startsWith("@")) {
    const tagged = found.group.physicalVolumes.filter(({ tags }) => tags.includes(text.slice(1)));
    return tagged.map(({ name, peCount }) => ({ pv: name, first: 0, count: peCount }));
  }
  const whole = memberOf(found, text);
  if (whole) return [{ pv: whole.name, first: 0, count: whole.peCount }];
  const ranges = RANGES.exec(text)?.[1] ?? "";
  const pv = memberOf(found, text.slice(0, text.length - ranges.length));
  if (!pv) throw notIn(found, text);
  return ranges
    .split(":")
    .slice(1)
    .map((range) => parseRange(pv, range));
}

function parseRange({ name, peCount }: PhysicalVolume, text: string): PeRange {
  const [, from = "", sign = "", to = ""] = /^(\d*)([-+]?)(\d*)$/.exec(text) ?? [];
  const first = Number(from || 0);
  const end = sign === "" ? first + 1 : to === "" ? peCount : sign === "+" ? first + Number(to) : Number(to) + 1;
  if (first >= end || end > peCount)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot use physical extents ${text}: allowed are 0..${peCount - 1}, the first not behind the last`,
      {
        details: { usage: true },
      },
    );
  return { pv: name, first, count: end - first };
}

/** By its device, or its UUID. */
export function memberOf({ group, members }: FoundGroup, text: string): PhysicalVolume | undefined {
  const name = canonicalName(text);
  return group.physicalVolumes.find((pv) => members.get(pv.name)?.name === name || pv.id === text);
}

export function notIn({ group }: FoundGroup, text: string): DiskError {
  return new DiskError("NOT_FOUND", `Physical Volume "${text}" not found in Volume Group "${group.name}".`, {
    details: { device: text, group: group.name },
  });
}
