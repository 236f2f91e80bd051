/** `xvd clone`: a copy of a disk, by sharing blocks where the file system can, with identities of its own on request. */
import type { Command } from "commander";
import { formatSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import type { CopiedDisk, CopyMode } from "../../stack/copy-disk.js";
import type { OpenDisk } from "../../stack/disk.js";
import { addDiskOptions, type DiskFlags, diskContext, withDisk } from "../disk.js";
import { interruptible } from "../interrupt.js";
import { columns, printJson, printLines, remark } from "../print.js";
import { withProgress } from "../progress.js";

interface Flags extends DiskFlags {
  mode: string;
  newIds?: boolean;
  verify?: boolean;
  sync: boolean;
  count?: string;
  force?: boolean;
  dryRun?: boolean;
  json?: boolean;
}

const MODES: readonly string[] = ["auto", "full", "reflink", "linked"];
const MAX_COUNT = 10_000;

export default function clone(command: Command): void {
  addDiskOptions(
    command
      .argument("<source>", "the disk to copy")
      .argument("<target>", "the new file; with --count a name with {} in it"),
  )
    .option(
      "--mode <mode>",
      "auto: reflink where possible, else full; full; reflink; linked: a qcow2 overlay on the source",
      "auto",
    )
    .option("--new-ids", "give the copy new identities: partition table, partitions, file systems")
    .option("--verify", "read both again and compare, before new identities are given")
    .option("--count <n>", "make n clones, {} in the target's name is 1 to n")
    .option("--force", "replace an existing file in one step, or write into an existing disk")
    .option("--no-sync", "return before the copy is on the disk, as cp does: a power cut soon after may lose it")
    .option("--dry-run", "tell what would be done")
    .action((source: string, target: string, flags: Flags) => run(source, target, flags));
}

async function run(source: string, target: string, flags: Flags): Promise<void> {
  const mode = modeOf(flags.mode);
  const targets = targetsOf(target, flags.count);
  const clones: CopiedDisk[] = [];
  // An overlay takes only the size of its backing image; what that one lies over is nobody's business yet.
  await withDisk(source, { ...flags, sealed: mode === "linked" }, (disk) =>
    interruptible(async (signal) => {
      for (const each of targets) {
        const clone = await cloneTo(disk, each, mode, flags, signal);
        clones.push(clone);
        if (!flags.json) printLines(cloneLines(source, clone, flags)); // at once: it stays when a later one fails
      }
    }),
  );
  for (const note of new Set(clones.flatMap(({ ids }) => ids.flatMap((id) => id.note ?? []))))
    remark(`xvd clone: ${note}`);
  if (flags.json)
    printJson({ source, "dry-run": flags.dryRun ?? false, clones: clones.map((one) => cloneDocument(one, flags)) });
}

async function cloneTo(
  disk: OpenDisk,
  target: string,
  mode: CopyMode,
  flags: Flags,
  signal: AbortSignal,
): Promise<CopiedDisk> {
  const { copyDisk } = await import("../../stack/copy-disk.js");
  const { randomBytes } = await import("node:crypto");
  const { force = false, verify = false, dryRun = false } = flags;
  const newIds = flags.newIds ? { newIds: randomBytes } : {};
  return withProgress(`clone ${target}`, flags, (report) =>
    copyDisk(disk, target, {
      mode,
      force,
      verify,
      dryRun,
      durable: flags.sync,
      signal,
      ...newIds,
      ...diskContext(),
      ...report,
    }),
  );
}

function modeOf(mode: string): CopyMode {
  if (!MODES.includes(mode))
    throw new DiskError("UNSUPPORTED", `Cannot clone in mode ${JSON.stringify(mode)}: allowed ${MODES.join(" ")}`, {
      details: { usage: true },
    });
  return mode as CopyMode;
}

function targetsOf(target: string, countText: string | undefined): string[] {
  if (countText === undefined) return [target];
  const count = Number(countText);
  const why =
    !/^\d+$/.test(countText) || count < 1 || count > MAX_COUNT
      ? `the count is ${JSON.stringify(countText)}, allowed 1..${MAX_COUNT}`
      : !target.includes("{}")
        ? `${JSON.stringify(target)} has no {} for the number`
        : undefined;
  if (why) throw new DiskError("UNSUPPORTED", `Cannot make several clones: ${why}`, { details: { usage: true } });
  return Array.from({ length: count }, (_, i) => target.replaceAll("{}", String(i + 1)));
}

function cloneDocument({ target, mode, size, copied, ids }: CopiedDisk, flags: Flags) {
  return { target, mode, size, copied, verified: flags.verify ?? false, ids };
}

function cloneLines(source: string, { target, mode, size, copied, ids }: CopiedDisk, flags: Flags): string[] {
  const how = mode === "reflink" ? "by reflink" : mode === "linked" ? "linked" : `${formatSize(copied)} of data copied`;
  const rows = ids.map((id) => [`  ${id.what}`, id.old, "→", id.new ?? "(keeps it)"]);
  const done = flags.dryRun
    ? `would clone ${source} to ${target}: ${formatSize(size)}, ${mode}`
    : `cloned ${source} to ${target}: ${formatSize(size)}, ${how}${flags.verify ? ", verified" : ""}`;
  return [done, ...columns(rows)];
}
