/** What LVM2's commands have in common: options, names of groups and volumes, and this moment for the texts they write. */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { type Command, InvalidArgumentError } from "commander";
import { parseSize } from "../../../bytes/size.js";
import { DiskError } from "../../../errors.js";
import type { ChangeResult, LvmContext } from "../../../stack/lvm/change.js";
import { readDevices } from "../../../stack/lvm/devices.js";
import { diskContext } from "../../disk.js";
import { printJson, printLines, remark } from "../../print.js";

export interface CommonFlags {
  readonly devices?: string[];
  readonly yes?: boolean;
  readonly quiet?: boolean;
  readonly test?: boolean;
  readonly dryRun?: boolean;
  readonly autobackup?: boolean;
  readonly json?: boolean;
}

/** `--devices` and what LVM2's commands take and we need not. */
export function addCommon(command: Command): Command {
  return command
    .option("--devices <disks>", "only these disks, separated by commas; default: the registered ones", collectList)
    .option("-y, --yes", "do not ask")
    .option("-q, --quiet", "print less");
}

/** For commands that change something. */
export function addChanging(command: Command): Command {
  return addCommon(command)
    .option("--dry-run", "print the change of the metadata and write nothing")
    .option("-t, --test", "the same")
    .option("-A, --autobackup <y|n>", "keep the metadata from before and after the change (default: y)", parseYesNo);
}

export function collectList(text: string, all: string[] = []): string[] {
  return [...all, ...text.split(",").filter(Boolean)];
}

export function collect(text: string, all: string[] = []): string[] {
  return [...all, text];
}

export function parseYesNo(text: string): boolean {
  if (/^(y|yes|1)$/i.test(text)) return true;
  if (/^(n|no|0)$/i.test(text)) return false;
  throw new InvalidArgumentError("allowed y and n");
}

export function parseCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("allowed a whole number");
  return Number(text);
}

/** Sizes without a unit are mebibytes, as in LVM2. */
export function parseMebibytes(text: string): number {
  return parseSize(/^[\d.]+$/.test(text) ? `${text}m` : text);
}

/** Sizes without a unit are kibibytes. */
export function parseKibibytes(text: string): number {
  return parseSize(/^[\d.]+$/.test(text) ? `${text}k` : text);
}

/** Counts `-f`, also as `-ff`. */
export function countForce(command: Command): () => number {
  let count = 0;
  command
    .option("-f, --force", "do it also where it may lose something; twice (-ff) for more")
    .on("option:force", () => count++);
  return () => count;
}

export function lvmContext(command: string): LvmContext {
  const { paths, domainName } = diskContext();
  return {
    paths: paths!,
    ...(domainName ? { domainName } : {}),
    random: randomBytes,
    now: Math.floor(Date.now() / 1000),
    host: hostname(),
    command: `xvd ${[command, ...process.argv.slice(3)].join(" ")}`,
    warn: (text) => remark(`  ${text}`),
  };
}

export function chosenDevices(
  { paths }: Pick<LvmContext, "paths">,
  { devices }: CommonFlags,
  more: readonly string[] = [],
): string[] {
  return [...new Set([...(devices ?? readDevices(paths.home).map(({ name }) => name)), ...more])];
}

export function changeOptions(context: LvmContext, flags: CommonFlags, more: readonly string[] = []) {
  return {
    devices: chosenDevices(context, flags, more),
    dryRun: isDryRun(flags),
    autobackup: flags.autobackup ?? true,
  };
}

export function isDryRun({ dryRun, test }: CommonFlags): boolean {
  return (dryRun ?? false) || (test ?? false);
}

/** The results of several groups as one; what changed is looked for only when it is asked for. */
export function joinResults(results: readonly ChangeResult[]): ChangeResult {
  return {
    steps: results.flatMap(({ steps }) => steps),
    get diff() {
      return results.flatMap(({ diff }) => diff);
    },
  };
}

/** What was done, or the change that would be made. */
export function printChange(flags: CommonFlags, result: ChangeResult): void {
  const dryRun = isDryRun(flags);
  if (flags.json) printJson({ "dry-run": dryRun, steps: result.steps, diff: result.diff });
  else if (dryRun) printLines(result.diff);
  else if (!flags.quiet) printLines(result.steps.map((step) => `  ${step}`));
}

/** `vg0/root`, `/dev/vg0/root`, `lvm:vg0/root`. */
export function parseVolumeName(text: string): { group: string; volume: string } {
  const [, group, volume] = /^(?:\/dev\/|lvm:)?([^/]+)\/([^/]+)$/.exec(text) ?? [];
  if (group && volume) return { group, volume };
  throw usage(`"${text}": Invalid path for Logical Volume, allowed VG/LV`);
}

/** `vg0`, `/dev/vg0`. */
export function parseGroupName(text: string): string {
  const name = text.replace(/^(?:\/dev\/|lvm:)/, "");
  if (!name.includes("/") && name !== "") return name;
  throw usage(`"${text}": Invalid volume group name`);
}

/** Arguments of which each is a group or a volume, by group in the order given; null: all volumes of the group. */
export function groupTargets(names: readonly string[]): Map<string, string[] | null> {
  const targets = new Map<string, string[] | null>();
  for (const text of names) {
    const whole = !text.replace(/^(?:\/dev\/|lvm:)/, "").includes("/");
    const { group, volume } = whole ? { group: parseGroupName(text), volume: null } : parseVolumeName(text);
    const known = targets.get(group);
    if (volume === null || known === null) targets.set(group, null);
    else targets.set(group, [...(known ?? []), volume]);
  }
  return targets;
}

export function usage(message: string): DiskError {
  return new DiskError("UNSUPPORTED", message, { details: { usage: true } });
}
