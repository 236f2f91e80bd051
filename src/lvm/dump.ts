/**
 * A physical volume as it lies on a disk, in the lines of LVM2's pvck. Damage is printed beside what it is in, and hides nothing else:
 * texts are also found by searching the ring, without any header. Nothing is written.
 */
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import { areaLines, labelLines } from "./dump-headers.js";
import { type DiskArea, findLabel, type PvLabel } from "./label.js";
import { LABEL_SECTORS, SECTOR } from "./layout.js";
import { type MetadataArea, readAreaHeader, readText } from "./metadata-area.js";
import { DEFAULT_AREA, describeText, type FoundText, searchTexts } from "./search-texts.js";

export type DumpKind = "headers" | "metadata" | "metadata_all" | "metadata_search";

export interface Dump {
  readonly lines: readonly string[];
  /** As they lie in the ring, without the zero at their ends. */
  readonly texts: readonly string[];
  /** Something is not as it has to be. */
  readonly damaged: boolean;
}

/** What the user knows better than the disk. Bytes. */
export interface PvSettings {
  /** Byte on the device where a text begins: this one. */
  readonly metadata_offset?: number;
  readonly mda_offset?: number;
  readonly mda_size?: number;
  readonly mda2_offset?: number;
  readonly mda2_size?: number;
}

export async function dumpPv(device: BlockDevice, what: DumpKind, settings: PvSettings = {}): Promise<Dump> {
  const head = await readHead(device);
  const { label, problems } = findLabel(head);
  const notes = problems.map((problem) => `  WARNING: ${problem}`);
  const areas = areasOf(label, settings).map((area) => clamp(area, device.size));
  const headers = await headerLines(device, head, label, areas);
  const checks = headers.filter((line) => line.startsWith("  CHECK"));
  const damaged = checks.length > 0 || problems.length > 0;
  const told = damaged ? ["  Found bad header or metadata values."] : [];
  if (what === "headers") return { lines: [...notes, ...headers, ...told], texts: [], damaged };
  if (what === "metadata" && settings.metadata_offset === undefined) {
    const dump = await dumpCommitted(device, areas, [...notes, ...checks]);
    return { ...dump, damaged: damaged || dump.texts.length === 0 };
  }
  const lines = [...notes, ...(damaged ? [...checks, ...told] : [])];
  const found: FoundText[] = [];
  for (const area of areas) {
    const inside = (await searchTexts(device, area)).filter(({ at }) => at === (settings.metadata_offset ?? at));
    if (what === "metadata_search") lines.push(`  Searching for metadata at offset ${area.offset} size ${area.size}`);
    lines.push(...inside.map(foundLine));
    found.push(...inside);
  }
  if (new Set(found.map(({ id }) => id)).size > 1) lines.push("  WARNING: metadata from multiple VGs was found.");
  if (settings.metadata_offset !== undefined && found.length === 0)
    throw new DiskError("NOT_FOUND", `Cannot dump metadata: no text begins at byte ${settings.metadata_offset}`);
  return { lines, texts: found.map(({ text }) => text), damaged };
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

export async function readHead(device: BlockDevice): Promise<Uint8Array> {
  const head = new Uint8Array(Math.min(LABEL_SECTORS * SECTOR, device.size));
  await device.read(0, head);
  return head;
}

/** By the settings, else the label, else where LVM2 puts the first one. */
export function areasOf(label: PvLabel | null, settings: PvSettings): DiskArea[] {
  const [first = DEFAULT_AREA, second] = label?.metadataAreas ?? [DEFAULT_AREA];
  const { mda_offset, mda_size, mda2_offset, mda2_size } = settings;
  const areas = [{ offset: mda_offset ?? first.offset, size: mda_size ?? first.size }];
  if (second || mda2_offset !== undefined)
    areas.push({ offset: mda2_offset ?? second!.offset, size: mda2_size ?? second?.size ?? 0 });
  return label?.metadataAreas.length === 0 && mda_offset === undefined ? [] : areas;
}

/** A size of zero is to the device's end. */
export function clamp({ offset, size }: DiskArea, deviceSize: number): DiskArea {
  return { offset, size: size === 0 ? Math.max(0, deviceSize - offset) : size };
}

async function headerLines(
  device: BlockDevice,
  head: Uint8Array,
  label: PvLabel | null,
  areas: readonly DiskArea[],
): Promise<string[]> {
  const at = (label?.sector ?? 1) * SECTOR;
  const lines = at + SECTOR <= head.length ? labelLines(head.subarray(at, at + SECTOR), at) : [];
  for (const [i, place] of areas.entries()) {
    lines.push(...(await areaLines(device, i + 1, place)));
    const area = await readAreaHeader(device, place);
    if (area.problem) lines.push(...(lines.at(-1)?.startsWith("  CHECK") ? [] : [`  CHECK: ${area.problem}`]));
    if (area.committed) lines.push(...(await textLines(device, area, area.committed)));
  }
  return lines;
}

async function textLines(
  device: BlockDevice,
  area: DiskArea,
  location: NonNullable<MetadataArea["committed"]>,
): Promise<string[]> {
  const at = `metadata text at ${area.offset + location.offset} crc 0x${location.crc.toString(16)}`;
  try {
    const { name, seqno } = describeText(await readText(device, area, location));
    return [`  ${at} # vgname ${name} seqno ${seqno}`];
  } catch (error) {
    if (error instanceof DiskError) return [`  ${at}`, `  CHECK: ${error.message}`];
    throw error;
  }
}

/** The text in force, of the first area that has one. */
async function dumpCommitted(
  device: BlockDevice,
  areas: readonly DiskArea[],
  notes: readonly string[],
): Promise<Pick<Dump, "lines" | "texts">> {
  const lines = [...notes];
  for (const place of areas) {
    const area = await readAreaHeader(device, place);
    if (!area.committed) continue;
    lines.push(...(await textLines(device, area, area.committed)).filter((line) => !line.startsWith("  CHECK")));
    try {
      return { lines, texts: [await readText(device, area, area.committed)] };
    } catch (error) {
      if (!(error instanceof DiskError) || error.code === "IO") throw error;
    }
  }
  return { lines: lines.length > 0 ? lines : ["  No metadata is in force"], texts: [] };
}

function foundLine({ at, size, crc, name, seqno, id }: FoundText): string {
  return `  metadata at ${at} length ${size} crc ${crc.toString(16).padStart(8, "0")} vg ${name} seqno ${seqno} id ${id}`;
}
