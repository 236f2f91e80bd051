/** The journal of a move that was cut, for all verbs that change a table. */
import { DiskError } from "../../../errors.js";
import { pathExists, pathKind } from "../../../os/paths.js";
import { journalPath } from "../../../partitions/move/journal.js";
import { parseDiskName } from "../../../stack/disk-name.js";

/** Where a move of one of the disk's partitions keeps its journal; null when the disk is no file: /dev does not outlive a reboot. */
export function defaultJournal(disk: string): string | null {
  const { base, part } = parseDiskName(disk, pathExists);
  return base.kind === "file" && part === null && pathKind(base.path) !== "block" ? journalPath(base.path) : null;
}

/** Half of a partition may be at its new place: nothing else may change the table now. */
export function refuseCutMove(disk: string): void {
  const journal = defaultJournal(disk);
  if (journal === null || !pathExists(journal)) return;
  throw new DiskError(
    "DENIED",
    `Cannot change ${disk}: a move was cut (${journal}), xvd part move --resume or --rollback comes first`,
    {
      details: { journal },
    },
  );
}
