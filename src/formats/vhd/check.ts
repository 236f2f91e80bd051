/** Checks a VHD: both footers, the places of its blocks, and what lies behind the last one. */
import type { HostFile } from "../../block/host-file.js";
import { type CheckOptions, type CheckReport, MAX_PROBLEMS } from "../extensions.js";
import type { OpenContext } from "../format.js";
import { visibleSize } from "./geometry.js";
import { type Footers, readFooters, readHeader, storedBlock } from "./header.js";
import { encodeFooter, SECTOR, TABLE_ABSENT, TABLE_ENTRY_SIZE, VHD_HEADER, type VhdHeader } from "./layout.js";
import { readLocators } from "./locators.js";

export async function checkVhd(file: HostFile, _context: OpenContext, options: CheckOptions): Promise<CheckReport> {
  const footers = await readFooters(file);
  if (footers.footer.type === "fixed") return report({ end: file.size }, options);
  const header = await readHeader(file, footers.footer);
  const findings = await inspect(file, footers, header, options);
  if (options.repair !== "none" && !options.dryRun)
    await mend(file, footers, header, findings, options.repair === "all");
  return report(findings, options);
}

interface Findings {
  readonly end: number;
  readonly blocks?: number;
  readonly allocated?: number;
  readonly fragmented?: number;
  /** Blocks whose entry cannot be used; true when another block has the same place. */
  readonly wrong?: ReadonlyMap<number, boolean>;
  readonly leaks?: number;
  readonly problems?: readonly string[];
}

function report(
  { end, blocks, allocated, fragmented, wrong, leaks = 0, problems = [] }: Findings,
  { repair }: CheckOptions,
): CheckReport {
  const corruptions = wrong?.size ?? 0;
  return {
    checkErrors: 0,
    corruptions: repair === "all" ? 0 : corruptions,
    corruptionsFixed: repair === "all" ? corruptions : 0,
    leaks: repair === "none" ? leaks : 0,
    leaksFixed: repair === "none" ? 0 : leaks,
    imageEndOffset: end,
    totalClusters: blocks ?? null,
    allocatedClusters: allocated ?? null,
    fragmentedClusters: fragmented ?? null,
    compressedClusters: blocks === undefined ? null : 0,
    problems,
  };
}

async function inspect(file: HostFile, footers: Footers, header: VhdHeader, options: CheckOptions): Promise<Findings> {
  const { blockSize, tableOffset } = header;
  const size = visibleSize(footers.footer);
  const blocks = Math.ceil(size / blockSize);
  const stored = storedBlock(blockSize);
  const table = Buffer.alloc(blocks * TABLE_ENTRY_SIZE); // 4 MiB at the most
  await file.read(tableOffset, table);
  const wrong = new Map<number, boolean>();
  const problems: string[] = [];
  const tell = (block: number, text: string) => {
    if (problems.length < MAX_PROBLEMS)
      problems.push(`block ${block} ${text} (byte ${tableOffset + block * TABLE_ENTRY_SIZE})`);
  };
  const metadata = metadataEnds(footers, header, table.length);
  const taken: { begin: number; block: number }[] = [];
  for (let block = 0; block < blocks; block++) {
    const entry = table.readUInt32BE(block * TABLE_ENTRY_SIZE);
    if (entry === TABLE_ABSENT) continue;
    const begin = entry * SECTOR;
    const needed = stored - blockSize + Math.min(blockSize, size - block * blockSize);
    if (
      begin < SECTOR ||
      begin + needed > file.size ||
      metadata.some(([from, to]) => begin < to && from < begin + needed)
    ) {
      tell(block, "lies outside the file, or over its tables");
      wrong.set(block, false);
    } else taken.push({ begin, block });
  }
  options.signal?.throwIfAborted();
  const inOrder = taken.filter(({ begin }, i) => i === 0 || begin === taken[i - 1]!.begin + stored).length;
  const sorted = [...taken].sort((a, b) => a.begin - b.begin || a.block - b.block);
  for (const [i, { begin, block }] of sorted.entries()) {
    if (i === 0 || sorted[i - 1]!.begin + stored <= begin) continue;
    tell(block, "lies over another one");
    wrong.set(block, true);
  }
  const end = Math.max(...metadata.map(([, to]) => to), ...sorted.slice(-1).map(({ begin }) => begin + stored));
  const footerAt = footers.dataEnd ?? file.size;
  const behind = Math.floor(Math.max(0, footerAt - end) / stored);
  let leaks = behind;
  if (behind > 0) problems.push(`room for ${behind} blocks behind the last one is not used`);
  if (footers.dataEnd === null || !footers.copyAgrees) {
    leaks++;
    problems.push(
      footers.dataEnd === null
        ? "the footer at the end is missing"
        : "the copy of the footer at the begin differs from it",
    );
  }
  return { end, blocks, allocated: taken.length, fragmented: taken.length - inOrder, wrong, leaks, problems };
}

/** Ranges of the file that hold headers, tables and locators. */
function metadataEnds({ footer }: Footers, header: VhdHeader, tableLength: number): [number, number][] {
  const at = Number(footer.headerOffset);
  const locators = readLocators(header).filter(({ length }) => length > 0);
  return [
    [0, SECTOR],
    [at, at + VHD_HEADER.size],
    [header.tableOffset, header.tableOffset + tableLength],
    ...locators.map(({ offset, length }): [number, number] => [offset, offset + length]),
  ];
}

/** Copies, then the entries that name them, then the footers: a cut leaves less to mend. */
async function mend(
  file: HostFile,
  { footer, dataEnd }: Footers,
  header: VhdHeader,
  findings: Findings,
  all: boolean,
): Promise<void> {
  const wrong = findings.wrong ?? new Map<number, boolean>();
  const usable = all || wrong.size === 0;
  let end = usable ? Math.ceil(findings.end / SECTOR) * SECTOR : (dataEnd ?? Math.ceil(file.size / SECTOR) * SECTOR);
  const entries = new Map<number, number>();
  if (all)
    for (const [block, overlaps] of wrong) {
      entries.set(block, overlaps ? end / SECTOR : TABLE_ABSENT);
      if (overlaps) end = await copyBlock(file, header, block, end);
    }
  await file.flush();
  for (const [block, number] of entries) {
    const entry = Buffer.alloc(TABLE_ENTRY_SIZE);
    entry.writeUInt32BE(number);
    await file.write(header.tableOffset + block * TABLE_ENTRY_SIZE, entry);
  }
  await file.flush();
  await file.write(0, encodeFooter(footer));
  await file.flush();
  if (file.resizable) await file.resize(Math.max(file.size, end + SECTOR));
  await file.write(end, encodeFooter(footer));
  await file.flush();
  if (file.resizable) await file.resize(end + SECTOR);
}

/** Puts a copy of what an entry names at `to`; returns where it ends. */
async function copyBlock(
  file: HostFile,
  { tableOffset, blockSize }: VhdHeader,
  block: number,
  to: number,
): Promise<number> {
  const entry = Buffer.alloc(TABLE_ENTRY_SIZE);
  await file.read(tableOffset + block * TABLE_ENTRY_SIZE, entry);
  const from = entry.readUInt32BE(0) * SECTOR;
  const bytes = new Uint8Array(storedBlock(blockSize));
  await file.read(from, bytes.subarray(0, Math.min(bytes.length, file.size - from)));
  await file.resize(Math.max(file.size, to + bytes.length + SECTOR));
  await file.write(to, bytes);
  return to + bytes.length;
}
