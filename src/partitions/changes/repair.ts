/** Mends what can be mended without a choice: both copies of a GPT, their place, the protective MBR, GUIDs given twice. */
import type { BlockDevice } from "../../block/device.js";
import { randomGuid } from "../../bytes/guid.js";
import { DiskError } from "../../errors.js";
import { crossCheck } from "../check.js";
import { gpt } from "../gpt/index.js";
import { salvageGpt } from "../gpt/salvage.js";
import { makePlan, type TablePlan } from "../plan.js";
import { FLUSH } from "../step.js";
import type { GptTable, Partition, PartitionTable, ReadTableOptions } from "../table.js";
import { openTableView } from "../view.js";
import { settleGpt } from "./settle.js";

/** Only the owner can say which of two overlapping partitions is right, or what to do about one that the disk cannot hold. */
const BEYOND_REPAIR = ["overlap", "past-end", "outside-usable", "extended"];

/** A plan without steps when nothing is damaged. Throws `DENIED` with the list of what only the owner can decide. */
export function planRepair(before: PartitionTable, random: (size: number) => Uint8Array): TablePlan {
  const stuck = before.problems.filter(({ code, level }) => level === "damage" && BEYOND_REPAIR.includes(code));
  if (stuck.length > 0) {
    const list = stuck.map(({ message }) => message).join("; ");
    throw new DiskError(
      "DENIED",
      `Cannot repair the table of ${before.device}: ${list}; xvd part rm, resize or move must decide`,
      {
        details: { problems: stuck.map(({ message }) => message) },
      },
    );
  }
  return before.label === "gpt" ? repairGpt(before, random) : wipeStaleGpt(before);
}

function repairGpt(before: GptTable, random: (size: number) => Uint8Array): TablePlan {
  const { table, summary } = settleGpt(before);
  const { partitions, sentences } = uniqueGuids(table, random);
  const damage = before.problems.filter(({ level }) => level === "damage").map(({ message }) => `mend: ${message}`);
  return makePlan(before, { ...table, partitions, onDisk: { ...table.onDisk, entriesLba: primaryPlace(table) } }, [
    ...damage,
    ...summary,
    ...sentences,
  ]);
}

/** Block 2, or right before the first usable block when a lost primary left no room there. */
function primaryPlace({ onDisk, firstUsableLba, sectorSize }: GptTable): number {
  const blocks = Math.ceil((onDisk.entryCount * onDisk.entrySize) / sectorSize);
  if (onDisk.primaryGood || onDisk.entriesLba + blocks <= firstUsableLba) return onDisk.entriesLba;
  return Math.max(2, firstUsableLba - blocks);
}

function uniqueGuids(
  table: GptTable,
  random: (size: number) => Uint8Array,
): { partitions: Partition[]; sentences: string[] } {
  const seen = new Set<string>();
  const sentences: string[] = [];
  const partitions = table.partitions.map((partition) => {
    const old = partition.uuid!;
    if (!seen.has(old)) {
      seen.add(old);
      return partition;
    }
    const uuid = randomGuid(random);
    sentences.push(`partition ${partition.number}: GUID ${old} is another one's, it becomes ${uuid}`);
    return { ...partition, uuid };
  });
  return { partitions, sentences };
}

/** An MBR has no second copy; what can be wrong without doubt is a GPT header that was left behind. */
function wipeStaleGpt(before: PartitionTable): TablePlan {
  const plan = makePlan(before, before, []);
  if (before.label !== "dos" || before.onDisk.staleGpt.length === 0) return plan;
  const wipe = before.onDisk.staleGpt.flatMap((offset) => [
    { kind: "write" as const, offset, data: new Uint8Array(512), what: "wipe a left-over GPT header" },
    FLUSH,
  ]);
  return { ...plan, summary: ["wipe the left-over GPT header"], steps: [...plan.steps, ...wipe] };
}

export interface SalvagePlan {
  readonly plan: TablePlan;
  /** Proved by a CRC; a proposal otherwise, to be written only when the owner agrees. */
  readonly certain: boolean;
}

/** For a disk whose table cannot be read: what is left of both GPT copies, put together. Null when that is nothing. */
export async function planSalvage(
  device: BlockDevice,
  random: (size: number) => Uint8Array,
  options: ReadTableOptions = {},
): Promise<SalvagePlan | null> {
  const empty = (sectorSize: 512 | 4096) =>
    gpt.empty({ device: device.label, size: device.size, sectorSize, id: gpt.newId(random) }) as GptTable;
  const salvaged = await salvageGpt(await openTableView(device), options, empty);
  if (!salvaged) return null;
  const table = { ...salvaged.table, problems: [...salvaged.table.problems, ...crossCheck(salvaged.table)] };
  const plan = planRepair(table, random);
  const sentences = table.partitions.map(
    ({ number, offset, size }) => `partition ${number}: bytes ${offset}..${offset + size}`,
  );
  return { plan: { ...plan, summary: [...plan.summary, ...sentences] }, certain: salvaged.certain };
}
