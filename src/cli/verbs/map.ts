/** `xvd map`: which parts of a disk are stored. The JSON is that of `qemu-img map --output=json`. */
import type { Command } from "commander";
import type { Extent } from "../../block/device.js";
import { formatSize } from "../../bytes/size.js";
import type { OpenDisk } from "../../stack/disk.js";
import { addDiskOptions, type DiskFlags, withDisk } from "../disk.js";
import { columns, printLines } from "../print.js";

interface Flags extends DiskFlags {
  json?: boolean;
}

/** Characters of the bar. */
const WIDTH = 64;
/** Runs that are listed for people. */
const LISTED = 32;

export default function map(command: Command): void {
  addDiskOptions(command.argument("<disk>", "the disk to map"))
    .addHelpText("after", "\nIn the bar █ is stored data, ▒ partly stored, · nothing stored: reads as zeros.")
    .action((disk: string, flags: Flags) =>
      withDisk(disk, flags, (open) => (flags.json ? printMap(open) : drawMap(disk, open))),
    );
}

/** A map can have millions of runs: it is printed as it is found. */
async function printMap({ device }: OpenDisk): Promise<void> {
  let separator = "[";
  for await (const { offset, length, depth, present, zero, data, hostOffset } of joined(
    device.extents(0, device.size),
  )) {
    const run = {
      start: offset,
      length,
      depth,
      present,
      zero,
      data,
      ...(hostOffset === null ? {} : { offset: hostOffset }),
    };
    if (!process.stdout.write(`${separator}${JSON.stringify(run)}`))
      await new Promise((resolve) => process.stdout.once("drain", resolve));
    separator = ",\n";
  }
  process.stdout.write(separator === "[" ? "[]\n" : "]\n");
}

async function drawMap(text: string, { device }: OpenDisk): Promise<void> {
  const stored = new Array<number>(WIDTH).fill(0); // bytes of data in each cell
  const cell = device.size / WIDTH;
  const rows: string[][] = [];
  let [data, runs] = [0, 0];
  for await (const extent of joined(device.extents(0, device.size))) {
    if (!extent.data) continue;
    data += extent.length;
    if (runs++ < LISTED)
      rows.push([
        `  ${extent.offset}`,
        `${extent.length}`,
        formatSize(extent.length),
        extent.hostOffset === null ? "" : `at ${extent.hostOffset} of the file`,
      ]);
    addToCells(stored, cell, extent);
  }
  const bar = stored.map((bytes) => (bytes === 0 ? "·" : bytes >= cell * 0.99 ? "█" : "▒")).join("");
  printLines([
    `${text}: ${formatSize(data)} of ${formatSize(device.size)} stored, ${runs} ${runs === 1 ? "run" : "runs"}`,
    `0 ${bar} ${formatSize(device.size)}`,
    ...columns(rows, [0, 1, 2]),
    ...(runs > LISTED ? [`  and ${runs - LISTED} more, --json lists them all`] : []),
  ]);
}

function addToCells(stored: number[], cell: number, { offset, length }: Extent): void {
  const last = Math.min(WIDTH - 1, Math.floor((offset + length - 1) / cell));
  for (let i = Math.floor(offset / cell); i <= last; i++)
    stored[i]! += Math.min((i + 1) * cell, offset + length) - Math.max(i * cell, offset);
}

/** Neighbours that say the same, and whose bytes follow each other, become one. */
async function* joined(extents: AsyncIterable<Extent>): AsyncGenerator<Extent> {
  let last: Extent | undefined;
  for await (const extent of extents) {
    if (last && continues(last, extent)) last = { ...last, length: last.length + extent.length };
    else {
      if (last) yield last;
      last = extent;
    }
  }
  if (last) yield last;
}

function continues(a: Extent, b: Extent): boolean {
  const same = a.data === b.data && a.zero === b.zero && a.present === b.present && a.depth === b.depth;
  return same && (a.hostOffset === null ? b.hostOffset === null : b.hostOffset === a.hostOffset + a.length);
}
