/** Snapshots of an image for people: a table. */
import { formatSize } from "../bytes/size.js";
import type { SnapshotFacts } from "../formats/format.js";
import { columns } from "./print.js";

export function snapshotLines(snapshots: readonly SnapshotFacts[]): string[] {
  return columns(
    snapshots.map(({ id, name, vmStateSize, date }) => [
      `  ${id}`,
      name,
      new Date(date).toISOString().replace("T", " ").slice(0, 19),
      vmStateSize > 0 ? `with ${formatSize(vmStateSize)} of machine state` : "",
    ]),
  );
}
