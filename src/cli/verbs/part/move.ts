/** `xvd part move`: a partition with its contents to another place; can be resumed, or rolled back, after a cut. */
import type { Command } from "commander";
import type { BlockDevice } from "../../../block/device.js";
import { parseSize } from "../../../bytes/size.js";
import { DiskError } from "../../../errors.js";
import { type NewStart, planMove } from "../../../partitions/changes/move.js";
import { fileJournal, type MoveJournal, type MoveState } from "../../../partitions/move/journal.js";
import { type MoveOptions, resumeMove, rollBackMove, runMove } from "../../../partitions/move/run.js";
import { usageError } from "../../../partitions/plan.js";
import { refuseUse } from "../../disk-users.js";
import { interruptible } from "../../interrupt.js";
import { printJson, printLines } from "../../print.js";
import { withProgress } from "../../progress.js";
import { parseNumber } from "./add.js";
import { defaultJournal } from "./cut-move.js";
import { addDiskOptions, requireTable, warnProblems, withDisk } from "./open-table.js";
import { type ChangeOptions, refuseUsedPartitions, runPlan } from "./run-plan.js";

interface MoveCommandOptions extends ChangeOptions {
  readonly start?: NewStart;
  readonly journal?: string;
  readonly resume?: boolean;
  readonly rollback?: boolean;
}

export default (command: Command): void => {
  addDiskOptions(command)
    .argument("<disk>", "image file or device")
    .argument("[number]", "the partition's number", parseNumber)
    .option("--start <size>", "where it begins then: 700M, or +10M, -10M from where it is", parseStart)
    .option("--resume", "go on with a move that was cut")
    .option("--rollback", "undo a move that was cut")
    .option("--journal <file>", "where the move keeps how far it is (default: DISK.xvd-move)")
    .option("--dry-run", "print what would be written")
    .addHelpText("after", "\nThe same command again also goes on with a move that was cut.")
    .action((disk: string, number: number | undefined, options: MoveCommandOptions) =>
      withDisk(disk, { ...options, writable: !options.dryRun, moving: true }, async (device) => {
        const journal = journalFor(disk, options);
        const pending = journal.load();
        if (pending) return goOn(disk, device, pending, number, journal, options);
        if (options.resume || options.rollback)
          throw new DiskError(
            "NOT_FOUND",
            `Cannot ${options.resume ? "resume" : "roll back"} a move of ${disk}: no move was cut, there is no ${journal.path}`,
          );
        if (number === undefined || options.start === undefined)
          throw usageError("Cannot move a partition: name its number and --start");
        await move(disk, device, number, options.start, journal, options);
      }),
    );
};

function parseStart(text: string): NewStart {
  if (text.startsWith("+")) return { by: parseSize(text.slice(1), "start") };
  return text.startsWith("-") ? { by: -parseSize(text.slice(1), "start") } : parseSize(text, "start");
}

function journalFor(disk: string, options: MoveCommandOptions): MoveJournal {
  const path = options.journal ?? defaultJournal(disk);
  if (path === null)
    throw usageError(
      `Cannot move a partition of ${disk}: it is no file that a journal can lie beside, name one with --journal`,
    );
  return fileJournal(path);
}

async function move(
  disk: string,
  device: BlockDevice,
  number: number,
  start: NewStart,
  journal: MoveJournal,
  options: MoveCommandOptions,
): Promise<void> {
  const read = () => requireTable(device, options);
  const table = await read();
  warnProblems(disk, table);
  const plan = planMove(table, number, start);
  if (!options.dryRun) await refuseUsedPartitions(disk, plan.table);
  if (!options.dryRun) await carryOut(disk, options, (how) => runMove(device, plan, read, journal, how));
  else if (plan.first) await runPlan(disk, device, plan.first, options);
  await runPlan(disk, device, plan.table, { ...options, written: true });
}

async function goOn(
  disk: string,
  device: BlockDevice,
  state: MoveState,
  number: number | undefined,
  journal: MoveJournal,
  options: MoveCommandOptions,
): Promise<void> {
  const same =
    number === undefined || (number === state.number && (options.start === undefined || options.start === state.to));
  if (!same) {
    const found = `a move of partition ${state.number} to byte ${state.to} was cut`;
    throw new DiskError(
      "DENIED",
      `Cannot move partition ${number} of ${disk}: ${found}, --resume goes on with it, --rollback undoes it`,
      { details: { journal: journal.path } },
    );
  }
  if (number === undefined && !options.resume && !options.rollback)
    throw usageError(`Cannot move a partition of ${disk}: name --resume or --rollback`);
  const what = `${options.rollback ? "roll back" : "resume"} the move of partition ${state.number} from byte ${state.from} to ${state.to}`;
  const read = () => requireTable(device, options);
  const run = options.rollback ? rollBackMove : resumeMove;
  if (!options.dryRun) await refuseUse(`move partition ${state.number} of`, disk, state.number);
  if (!options.dryRun) await carryOut(disk, options, (how) => run(device, state, read, journal, how));
  if (options.json) printJson({ changed: !options.dryRun, "dry-run": options.dryRun ?? false, summary: [what] });
  else printLines([`${disk}: ${options.dryRun ? "would " : ""}${what}`]);
}

/** Runs a move with a progress bar; Ctrl-C stops it between two pieces, as a cut would, but without anything to do again. */
function carryOut(
  disk: string,
  options: MoveCommandOptions,
  work: (options: MoveOptions) => Promise<void>,
): Promise<void> {
  const outcome = `xvd part move ${disk} --resume goes on, --rollback undoes it`;
  return interruptible((signal) => withProgress("moving", options, (report) => work({ ...report, signal })), outcome);
}
