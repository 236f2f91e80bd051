/** A partition's move that was cut: until it is finished or undone, part of that partition lies at its new place and part at its old one. */
import { DiskError } from "../errors.js";
import { pathExists, pathKind } from "../os/paths.js";
import { journalPath } from "../partitions/move/journal.js";

/** Throws `DENIED` when an image file has a move to be finished: nothing else may write or replace it now. */
export function refuseCutMove(path: string, purpose: string): void {
  const journal = journalPath(path);
  if (!pathExists(journal) || pathKind(path) === "block") return;
  throw new DiskError(
    "DENIED",
    `Cannot ${purpose}: a move of one of its partitions was cut (${journal}), 'xvd part move --resume' or '--rollback' comes first`,
    { details: { path, journal } },
  );
}
