/** What a change does to a group, line by line: `+` what comes, `-` what goes, by the path in the metadata. */
import { printValue } from "../config/print.js";
import type { Entry } from "../config/tree.js";
import type { VolumeGroup } from "../metadata.js";
import { groupSection } from "../print-group.js";

export function diffGroups(before: VolumeGroup | null, after: VolumeGroup | null): string[] {
  const lines: string[] = [];
  compare(before ? [groupSection(before)] : [], after ? [groupSection(after)] : [], "", lines);
  return lines;
}

function compare(before: readonly Entry[], after: readonly Entry[], path: string, lines: string[]): void {
  const old = new Map(before.map((entry) => [entry.key, entry]));
  const now = new Map(after.map((entry) => [entry.key, entry]));
  for (const key of new Set([...old.keys(), ...now.keys()])) {
    const [a, b] = [old.get(key), now.get(key)];
    const here = path === "" ? key : `${path}/${key}`;
    if (a?.kind === "section" || b?.kind === "section") {
      compare(a?.kind === "section" ? a.entries : [], b?.kind === "section" ? b.entries : [], here, lines);
      continue;
    }
    const [left, right] = [a && printValue(a.value), b && printValue(b.value)];
    if (left === right) continue;
    if (left !== undefined) lines.push(`- ${here} = ${left}`);
    if (right !== undefined) lines.push(`+ ${here} = ${right}`);
  }
}
