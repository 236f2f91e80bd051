/** Where the journal of a move lies, for the verbs that tell of it. */
import { pathExists, pathKind } from "../../../os/paths.js";
import { journalPath } from "../../../partitions/move/journal.js";
import { parseDiskName } from "../../../stack/disk-name.js";

/** Where a move of one of the disk's partitions keeps its journal; null when the disk is no file: /dev does not outlive a reboot. */
export function defaultJournal(disk: string): string | null {
  const { base, part } = parseDiskName(disk, pathExists);
  return base.kind === "file" && part === null && pathKind(base.path) !== "block" ? journalPath(base.path) : null;
}
