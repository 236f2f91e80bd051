/** Carries out a plan for the verbs that change a table, or prints it: summary, dry run and writer work from the same one. */
import type { BlockDevice } from "../../../block/device.js";
import { describeSteps, type TablePlan } from "../../../partitions/plan.js";
import { toSfdiskJson } from "../../../partitions/sfdisk-json.js";
import { writePlan } from "../../../partitions/write.js";
import { refuseUse } from "../../disk-users.js";
import { printJson, printLines } from "../../print.js";
import type { DiskOptions } from "./open-table.js";

export interface ChangeOptions extends DiskOptions {
  readonly dryRun?: boolean;
  readonly json?: boolean;
  /** The plan has been carried out already: only told. */
  readonly written?: boolean;
}

export async function runPlan(
  disk: string,
  device: BlockDevice,
  plan: TablePlan,
  options: ChangeOptions,
): Promise<void> {
  if (!options.dryRun && !options.written) {
    await refuseUsedPartitions(disk, plan);
    await writePlan(device, plan);
  }
  if (options.json) {
    const steps = plan.steps.flatMap((step) => {
      if (step.kind === "flush") return [];
      const length = step.kind === "zero" ? step.length : step.data.length;
      return [{ offset: step.offset, length, what: step.what }];
    });
    const result = {
      changed: !options.dryRun && steps.length > 0,
      "dry-run": options.dryRun ?? false,
      summary: plan.summary,
      writes: steps,
    };
    return printJson({ ...result, ...toSfdiskJson(plan.after, disk) });
  }
  printLines(plan.summary.map((line) => `${disk}: ${options.dryRun ? "dry run: " : ""}${line}`));
  if (options.dryRun) printLines(describeSteps(plan).map((line) => `  ${line}`));
  else if (plan.steps.length === 0) printLines([`${disk}: nothing to write`]);
}

/** What a plan takes away, moves or makes smaller must be nobody's at the moment; the rest, and what grows, may be in use. */
export async function refuseUsedPartitions(disk: string, { before, after }: TablePlan): Promise<void> {
  if (!before) return refuseUse("make a partition table on", disk, null);
  for (const { number, offset, size } of before.partitions) {
    const kept = after.partitions.find((one) => one.number === number);
    if (kept && kept.offset === offset && kept.size >= size) continue;
    await refuseUse(`change partition ${number} of`, disk, number);
  }
}
