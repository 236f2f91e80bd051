/** `xvd lvchange --syncaction check|repair`: all legs of volumes compared, and made alike. */
import { withLegs } from "../../../stack/lvm/raid-use.js";
import { printJson, printLines } from "../../print.js";
import { type CommonFlags, changeOptions, lvmContext, parseVolumeName, usage } from "./options.js";

export async function scrubLegs(
  names: readonly string[],
  action: "check" | "repair",
  flags: CommonFlags,
): Promise<void> {
  const context = lvmContext("lvchange");
  const results: { volume: string; mismatches: number }[] = [];
  for (const target of names) {
    const name = parseVolumeName(target);
    const bytes = await withLegs(context, changeOptions(context, flags), name, (legs) =>
      legs.check(action === "repair"),
    );
    if (bytes === null) throw usage(`Cannot scrub ${name.group}/${name.volume}: it is no RAID volume or mirror`);
    results.push({ volume: `${name.group}/${name.volume}`, mismatches: bytes / 512 });
  }
  if (flags.json) return printJson(results.map(({ volume, mismatches }) => ({ volume, action, mismatches })));
  for (const { volume, mismatches } of results)
    printLines([`  ${volume}: ${mismatches} sectors ${action === "repair" ? "were" : "are"} different`]);
}
