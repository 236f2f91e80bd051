/** `lvextend --use-policies`: what LVM2's monitor runs when a snapshot or a pool fills; here whoever wants runs it, from a timer. */
import { autoextendAmount, autoextendPolicy } from "../../../lvm/changes/autoextend.js";
import { findVolume } from "../../../lvm/metadata.js";
import { type CommonFlags, changeOptions, lvmContext, printChange, usage } from "./options.js";

export async function usePolicies(
  { group, volume }: { readonly group: string; readonly volume: string },
  flags: CommonFlags & { readonly config?: string[] },
): Promise<void> {
  const { changeGroup } = await import("../../../stack/lvm/change.js");
  const { planResizeVolume } = await import("../../../lvm/changes/resize-volume.js");
  const { measureVolumes } = await import("../../../lvm/report/measure.js");
  const { readTextFile } = await import("../../../os/state-files.js");
  const { join } = await import("node:path");
  const context = lvmContext("lvextend");
  const file = readTextFile(join(context.paths.home, "lvm", "lvm.conf")) ?? "";
  const result = await changeGroup(context, group, changeOptions(context, flags), async (found) => {
    const [segment] = findVolume(found.group, volume).segments;
    const kind = segment?.type === "thin-pool" ? "thin_pool" : "snapshot";
    const used = (await measureVolumes(found)).get(volume)?.dataPercent;
    if (used === undefined) throw usage(`Cannot extend ${group}/${volume} by policy: it is no snapshot and no pool`);
    const amount = autoextendAmount(used, autoextendPolicy(kind, [file, ...(flags.config ?? [])]));
    if (amount === 0)
      return {
        group: found.group,
        unchanged: true,
        steps: [`${group}/${volume} is ${used.toFixed(2)} % full, no need to extend`],
      };
    const size = { kind: "percent", sign: "+", percent: amount, of: "LV" } as const;
    return planResizeVolume(found.group, { name: volume, size, way: "extend" });
  });
  printChange(flags, result);
}
