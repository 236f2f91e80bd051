/**
 * A physical volume as it lies on a disk, in the lines of LVM2's pvck. Damage is printed beside what it is in, and hides nothing else:
 * texts are also found by searching the ring, without any header. Nothing is written.
 */
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import { lvmCrc } from "./crc.js";
import type { DiskArea, PvLabel } from "./label.js";
import { findLabel } from "./label.js";
import { LABEL_HEADER, LABEL_SECTORS, METADATA_AREA_HEADER, PV_HEADER, SECTOR, TEXT_LOCATION } from "./layout.js";
import { decodeText, readAreaHeader, readText } from "./metadata-area.js";

export interface Dump {
  readonly lines: readonly string[];
  readonly texts: readonly string[];
}

/** Where the first area lies when no label tells it. */
const DEFAULT_AREA: DiskArea = { offset: 4096, size: (1 << 20) - 4096 };
/** Of a larger area only this much is searched; LVM2's default is 1 MiB. */
const MAX_SEARCH = 128 << 20;

export async function dumpPv(
  device: BlockDevice,
  what: "headers" | "metadata" | "metadata_all" | "metadata_search",
): Promise<Dump> {
  const head = await readHead(device);
  const { label, problems } = findLabel(head);
  const notes = problems.map((problem) => `  WARNING: ${problem}`);
  const areas = (label?.metadataAreas ?? [DEFAULT_AREA]).map((area) => clamp(area, device.size));
  if (what === "headers")
    return { lines: [...notes, ...labelLines(head, label), ...(await headerLines(device, areas))], texts: [] };
  if (what === "metadata") return dumpCommitted(device, areas, notes);
  const found = [];
  for (const area of areas) {
    if (what === "metadata_search")
      found.push({ line: `  Searching for metadata at offset ${area.offset} size ${area.size}`, text: "" });
    found.push(...(await searchTexts(device, area)));
  }
  return { lines: [...notes, ...found.map(({ line }) => line)], texts: [] };
}

/** What `pvck DISK` says. Throws `NOT_FOUND` when there is no label. */
export async function foundLines(device: BlockDevice, name: string): Promise<string[]> {
  const { label, problems } = findLabel(await readHead(device));
  if (!label)
    throw new DiskError(
      "NOT_FOUND",
      `Cannot check ${name}: no valid label is found${problems.length > 0 ? ` (${problems.join("; ")})` : ""}`,
    );
  const lines = [
    ...problems.map((problem) => `  WARNING: ${problem}`),
    `  Found label on ${name}, sector ${label.sector}, type=LVM2 001`,
  ];
  for (const place of label.metadataAreas) {
    const area = clamp(place, device.size);
    const { problem } = await readAreaHeader(device, area);
    lines.push(
      problem ? `  WARNING: ${problem}` : `  Found text metadata area: offset=${area.offset}, size=${area.size}`,
    );
  }
  return lines;
}

async function readHead(device: BlockDevice): Promise<Uint8Array> {
  const head = new Uint8Array(Math.min(LABEL_SECTORS * SECTOR, device.size));
  await device.read(0, head);
  return head;
}

function clamp({ offset, size }: DiskArea, deviceSize: number): DiskArea {
  return { offset, size: size === 0 ? Math.max(0, deviceSize - offset) : size };
}

function labelLines(head: Uint8Array, label: PvLabel | null): string[] {
  if (!label) return ["  label_header: none is valid"];
  const at = label.sector * SECTOR;
  const header = LABEL_HEADER.decode(head, at);
  const start = at + header.offset;
  const lines = [
    `  label_header at ${at}`,
    `  label_header.id ${header.id}`,
    `  label_header.sector ${header.sector}`,
    `  label_header.crc ${hex(header.crc)}`,
    `  label_header.offset ${header.offset}`,
    `  label_header.type ${header.type}`,
    `  pv_header at ${start}`,
    `  pv_header.pv_uuid ${label.id.replaceAll("-", "")}`,
    `  pv_header.device_size ${label.deviceSize}`,
  ];
  let next = start + PV_HEADER.size;
  let number = 0;
  const list = (prefix: string, areas: readonly DiskArea[], what: string) => {
    for (const area of [...areas, null]) {
      const name = `${prefix}.disk_locn[${number++}]`;
      lines.push(
        `  ${name} at ${next} # ${area ? what : "location list end"}`,
        `  ${name}.offset ${area?.offset ?? 0}`,
        `  ${name}.size ${area?.size ?? 0}`,
      );
      next += 16;
    }
  };
  list("pv_header", label.dataAreas, "location of data area");
  list("pv_header", label.metadataAreas, "location of metadata area");
  if (!label.extension) return lines;
  lines.push(
    `  pv_header_extension at ${next}`,
    `  pv_header_extension.version ${label.extension.version}`,
    `  pv_header_extension.flags ${label.extension.flags}`,
  );
  next += 8;
  number = 0;
  list("pv_header_extension", label.bootAreas, "bootloader area");
  return lines;
}

async function headerLines(device: BlockDevice, areas: readonly DiskArea[]): Promise<string[]> {
  const lines: string[] = [];
  for (const [i, area] of areas.entries()) {
    const name = `mda_header_${i + 1}`;
    const { header, problem, committed } = await readAreaHeader(device, area);
    lines.push(`  ${name} at ${area.offset} # metadata area`);
    if (problem) lines.push(`  WARNING: ${problem}`);
    if (!header) continue;
    const magic = [...METADATA_AREA_HEADER.encode(header).subarray(4, 20)]
      .map((byte) => byte.toString(16).padStart(2, "0"))
      .join("");
    lines.push(
      `  ${name}.checksum ${hex(header.crc)}`,
      `  ${name}.magic 0x${magic}`,
      `  ${name}.version ${header.version}`,
      `  ${name}.start ${header.start}`,
      `  ${name}.size ${header.size}`,
    );
    for (const [slot, [bytes, what]] of (
      [
        [header.committed, "commit"],
        [header.precommitted, "precommit"],
      ] as const
    ).entries()) {
      const place = `${name}.raw_locn[${slot}]`;
      const { offset, size, crc, flags } = TEXT_LOCATION.decode(bytes);
      lines.push(
        `  ${place} at ${area.offset + 40 + 24 * slot} # ${what}`,
        `  ${place}.offset ${offset}`,
        `  ${place}.size ${size}`,
        `  ${place}.checksum ${hex(crc)}`,
        `  ${place}.flags ${hex(flags)}`,
      );
    }
    if (committed) lines.push(await textLine(device, area, committed));
  }
  return lines;
}

async function textLine(
  device: BlockDevice,
  area: DiskArea,
  location: Parameters<typeof readText>[2],
): Promise<string> {
  const at = `metadata text at ${area.offset + location.offset} crc ${hex(location.crc)}`;
  try {
    const { name, seqno } = describe(await readText(device, area, location));
    return `  ${at} # vgname ${name} seqno ${seqno}`;
  } catch (error) {
    if (error instanceof DiskError) return `  ${at}\n  WARNING: ${error.message}`;
    throw error;
  }
}

/** The text in force, of the first area that has one. */
async function dumpCommitted(device: BlockDevice, areas: readonly DiskArea[], notes: readonly string[]): Promise<Dump> {
  const lines = [...notes];
  for (const place of areas) {
    const area = await readAreaHeader(device, place);
    if (area.problem) lines.push(`  WARNING: ${area.problem}`);
    if (!area.committed) continue;
    lines.push(...(await textLine(device, area, area.committed)).split("\n"));
    try {
      return { lines, texts: [await readText(device, area, area.committed)] };
    } catch (error) {
      if (!(error instanceof DiskError) || error.code === "IO") throw error;
    }
  }
  return { lines: lines.length > 0 ? lines : ["  No metadata is in force"], texts: [] };
}

interface FoundText {
  readonly line: string;
  readonly text: string;
}

/** Every text that begins on a sector of the ring, whether or not something points to it. */
async function searchTexts(device: BlockDevice, { offset, size }: DiskArea): Promise<FoundText[]> {
  const length = Math.min(size, device.size - offset, MAX_SEARCH) - SECTOR;
  if (!(length > 0)) return [];
  const ring = Buffer.alloc(length);
  await device.read(offset + SECTOR, ring);
  const found: FoundText[] = [];
  for (let at = 0; at < length; at += SECTOR) {
    if (!/^[\w.+-]+ \{\nid = "/.test(ring.toString("latin1", at, at + 200))) continue;
    const bytes = textAt(ring, at);
    if (!bytes) continue;
    const text = decodeText(bytes);
    const { name, seqno, id } = describe(text);
    const crc = lvmCrc(bytes).toString(16).padStart(8, "0");
    found.push({
      text,
      line: `  metadata at ${offset + SECTOR + at} length ${bytes.length} crc ${crc} vg ${name} seqno ${seqno} id ${id}`,
    });
  }
  return found;
}

/** Up to the zero that ends it, around the ring's end where it has to; null when there is none. */
function textAt(ring: Buffer, start: number): Buffer | null {
  const end = ring.indexOf(0, start);
  if (end >= 0) return ring.subarray(start, end + 1);
  const wrapped = ring.indexOf(0);
  return wrapped >= 0 && wrapped < start ? Buffer.concat([ring.subarray(start), ring.subarray(0, wrapped + 1)]) : null;
}

function describe(text: string): { name: string; seqno: string; id: string } {
  return {
    name: /^([\w.+-]+) \{/m.exec(text)?.[1] ?? "?",
    seqno: /^seqno = (\d+)/m.exec(text)?.[1] ?? "?",
    id: /^id = "([^"]*)"/m.exec(text)?.[1] ?? "?",
  };
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
