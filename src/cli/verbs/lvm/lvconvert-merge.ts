/** `xvd lvconvert --merge VG/SNAPSHOT`: begins a merge, or goes on with one that was interrupted. */
import { interruptible } from "../../interrupt.js";
import { withProgress } from "../../progress.js";
import type { LvconvertFlags } from "./lvconvert-request.js";
import { changeOptions, joinResults, lvmContext, parseVolumeName, printChange } from "./options.js";

export async function mergeVolumes(names: readonly string[], flags: LvconvertFlags): Promise<void> {
  const { mergeIntoOrigin } = await import("../../../stack/lvm/snapshots.js");
  const context = lvmContext("lvconvert");
  const results = [];
  for (const { group, volume: snapshot } of names.map(parseVolumeName))
    results.push(
      await withProgress(`merge ${group}/${snapshot}`, flags, (report) =>
        interruptible(
          (signal) =>
            mergeIntoOrigin(
              context,
              { group, snapshot, later: flags.background ?? false, signal, ...report },
              changeOptions(context, flags),
            ),
          `'xvd lvconvert --merge ${group}/${snapshot}' goes on`,
        ),
      ),
    );
  printChange(flags, joinResults(results));
}
