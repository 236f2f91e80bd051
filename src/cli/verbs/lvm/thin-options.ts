/** Options of lvcreate and lvconvert that are about thin pools and volumes. */
import type { Command } from "commander";
import type { Discards } from "../../../lvm/changes/thin-pool.js";
import { parseKibibytes, parseMebibytes, parseYesNo, usage } from "./options.js";

export interface ThinFlags extends PoolFlags {
  readonly thin?: boolean;
  readonly thinpool?: string;
  readonly virtualsize?: number;
}

export interface PoolFlags {
  readonly chunksize?: number;
  readonly poolmetadatasize?: number;
  readonly poolmetadataspare?: boolean;
  readonly discards?: Discards;
  readonly errorwhenfull?: boolean;
}

export function addThinOptions(command: Command): Command {
  return addPoolOptions(command)
    .option("-T, --thin", "a thin pool (with -L) or a volume in one (with -V); with both, both")
    .option("--thinpool <pool>", "the pool")
    .option("-V, --virtualsize <size>", "of a thin volume; without a unit mebibytes", parseMebibytes)
    .option("-K, --ignoreactivationskip", "accepted: volumes are served when they are opened");
}

export function addPoolOptions(command: Command): Command {
  return command
    .option("-c, --chunksize <size>", "of a pool: a multiple of 64k (default: by its size)", parseKibibytes)
    .option("--poolmetadatasize <size>", "of a pool (default: by its chunks)", parseMebibytes)
    .option("--poolmetadataspare <y|n>", "room to repair the metadata in (default: y)", parseYesNo)
    .option("--discards <how>", "passdown, nopassdown or ignore (default: passdown)", parseDiscards)
    .option("--errorwhenfull <y|n>", "a kernel fails writes to a full pool at once (default: n)", parseYesNo);
}

/** Whether the options are about thin volumes; `-s` without a size and without a pool too: only thin snapshots need none. */
export function wantsThin({
  thin,
  thinpool,
  virtualsize,
  type,
  snapshot,
  size,
  extents,
}: ThinFlags & AboutThin): boolean {
  if (type !== undefined) return type === "thin" || type === "thin-pool";
  return (
    thin === true || thinpool !== undefined || virtualsize !== undefined || (snapshot === true && !size && !extents)
  );
}

interface AboutThin {
  readonly type?: string;
  readonly snapshot?: boolean;
  readonly size?: unknown;
  readonly extents?: unknown;
}

function parseDiscards(text: string): Discards {
  if (text === "passdown" || text === "nopassdown" || text === "ignore") return text;
  throw usage("Cannot use these discards: allowed passdown, nopassdown and ignore");
}
