/**
 * Plan first: a change is computed as a new table and the writes that lead to it, before anything is written.
 * The dry run, the summary and the writer (`write.ts`) all work from the same plan. Everything here is pure.
 *
 * Order of the writes, for a cut after any single sector (proved in test/partitions/cuts.test.ts by trying them all):
 * - GPT to GPT: one whole copy (entries, then header), then the other. The copy written first is the backup while the
 *   primary is good, so a reader sees the old primary, then the new backup, then the new primary.
 * - to GPT from an MBR or nothing: one whole copy, then the protective MBR, which switches, then the other copy.
 * - MBR to MBR: new EBRs in unused sectors, then the one sector that links them, be it the MBR or an EBR.
 * - to MBR from a GPT: EBRs, then the MBR without protective entry, which switches, then the GPT headers are wiped.
 * A flush stands between any two of these, because a disk may reorder what lies between two flushes.
 */
import { DiskError } from "../errors.js";
import { formatOf } from "./registry.js";
import type { Step } from "./step.js";
import type { PartitionTable } from "./table.js";

export interface TablePlan {
  /** The table that was read; null when there was none. */
  readonly before: PartitionTable | null;
  readonly after: PartitionTable;
  /** What changes, a sentence each, in the order in which it was decided. */
  readonly summary: readonly string[];
  /** Empty when the disk is as wanted already. */
  readonly steps: readonly Step[];
}

export function makePlan(before: PartitionTable | null, after: PartitionTable, summary: readonly string[]): TablePlan {
  return { before, after, summary, steps: formatOf(after).steps(before, after) };
}

/** The steps as lines for a dry run. */
export function describeSteps({ steps }: TablePlan): string[] {
  if (steps.length === 0) return ["nothing to write"];
  return steps.map((step) => {
    if (step.kind === "flush") return "flush";
    const length = step.kind === "zero" ? step.length : step.data.length;
    return `${step.kind} ${length} bytes at ${step.offset}: ${step.what}`;
  });
}

/** Wrong input to a plan, as opposed to a disk that does not allow it. */
export function usageError(message: string, details: Record<string, string | number> = {}): DiskError {
  return new DiskError("UNSUPPORTED", message, { details: { usage: true, ...details } });
}
