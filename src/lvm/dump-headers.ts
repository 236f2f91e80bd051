/** The lines of LVM2's `pvck --dump headers`: every field as it stands, and a CHECK line for what is not as it has to be. */
import type { BlockDevice } from "../block/device.js";
import { printable } from "../bytes/printable.js";
import { lvmCrc } from "./crc.js";
import { parseId } from "./id.js";
import type { DiskArea } from "./label.js";
import { LABEL_HEADER, PV_EXTENSION, PV_HEADER, SECTOR } from "./layout.js";

const LABEL_ID = "LABELONE";
const LABEL_TYPE = "LVM2 001";
const AREA_MAGIC = " LVM2 x[5A%r0N*>";

const hex = (value: number) => `0x${value.toString(16)}`;
const hexBytes = (bytes: Uint8Array) => `0x${Buffer.from(bytes).toString("hex")}`;
const textOf = (bytes: Uint8Array) => printable(Buffer.from(bytes).toString("latin1").replace(/\0+$/, ""));
const wrong = (bad: boolean, line: string): string[] => (bad ? [`  CHECK: ${line}`] : []);

/** `sector` is the label's sector, which begins at `at`. Lists of areas end with the sector, whatever they say. */
export function labelLines(sector: Uint8Array, at: number): string[] {
  const view = new DataView(sector.buffer, sector.byteOffset, sector.length);
  const u32 = (offset: number) => view.getUint32(offset, true);
  const u64 = (offset: number) => view.getBigUint64(offset, true);
  const [id, type] = [textOf(sector.subarray(0, 8)), textOf(sector.subarray(24, 32))];
  const crc = lvmCrc(sector.subarray(20));
  const uuid = textOf(sector.subarray(32, 64));
  const start = at + LABEL_HEADER.size;
  const lines = [
    `  label_header at ${at}`,
    `  label_header.id ${id}`,
    `  label_header.sector ${u64(8)}`,
    `  label_header.crc ${hex(u32(16))}`,
    `  label_header.offset ${u32(20)}`,
    `  label_header.type ${type}`,
    ...wrong(id !== LABEL_ID, `label_header.id expected ${LABEL_ID}`),
    ...wrong(u64(8) !== BigInt(at / SECTOR), `label_header.sector expected ${at / SECTOR}`),
    ...wrong(u32(16) !== crc, `label_header.crc expected ${hex(crc)}`),
    ...wrong(u32(20) !== LABEL_HEADER.size, `label_header.offset expected ${LABEL_HEADER.size}`),
    ...wrong(type !== LABEL_TYPE, `label_header.type expected ${LABEL_TYPE}`),
    `  pv_header at ${start}`,
    `  pv_header.pv_uuid ${uuid}`,
    `  pv_header.device_size ${u64(64)}`,
    ...wrong(parseId(uuid) === null, "pv_header.pv_uuid invalid format"),
  ];
  let next = LABEL_HEADER.size + PV_HEADER.size;
  const list = (prefix: string, first: number, what: string): number => {
    for (let number = first; ; number++, next += 16) {
      if (next + 16 > SECTOR) {
        lines.push(`  CHECK: ${prefix}.disk_locn list has no end`);
        return number;
      }
      const [offset, size] = [u64(next), u64(next + 8)];
      const last = offset === 0n;
      const name = `${prefix}.disk_locn[${number}]`;
      lines.push(
        `  ${name} at ${at + next} # ${last ? "location list end" : what}`,
        `  ${name}.offset ${offset}`,
        `  ${name}.size ${size}`,
      );
      if (!last) continue;
      next += 16;
      return number + 1;
    }
  };
  list("pv_header", list("pv_header", 0, "location of data area"), "location of metadata area");
  if (next + PV_EXTENSION.size > SECTOR) return lines;
  const version = u32(next);
  lines.push(
    `  pv_header_extension at ${at + next}`,
    `  pv_header_extension.version ${version}`,
    `  pv_header_extension.flags ${u32(next + 4)}`,
  );
  next += PV_EXTENSION.size;
  if (version > 0) list("pv_header_extension", 0, "bootloader area");
  return lines;
}

/** Of the area `number`, from 1; `where` is what the label says. */
export async function areaLines(device: BlockDevice, number: number, where: DiskArea): Promise<string[]> {
  const name = `mda_header_${number}`;
  const lines = [`  ${name} at ${where.offset} # metadata area`];
  if (where.offset > device.size - SECTOR || where.offset % SECTOR !== 0)
    return [...lines, `  CHECK: failed to read mda_header at ${where.offset}`];
  const bytes = new Uint8Array(SECTOR);
  await device.read(where.offset, bytes);
  const view = new DataView(bytes.buffer);
  const u32 = (offset: number) => view.getUint32(offset, true);
  const u64 = (offset: number) => view.getBigUint64(offset, true);
  const crc = lvmCrc(bytes.subarray(4));
  const magic = Buffer.from(AREA_MAGIC, "latin1");
  const isMagic = magic.equals(bytes.subarray(4, 20));
  lines.push(
    `  ${name}.checksum ${hex(u32(0))}`,
    `  ${name}.magic ${hexBytes(bytes.subarray(4, 20))}`,
    `  ${name}.version ${u32(20)}`,
    `  ${name}.start ${u64(24)}`,
    `  ${name}.size ${u64(32)}`,
    ...wrong(u32(0) !== crc, `${name}.checksum expected ${hex(crc)}`),
    ...wrong(!isMagic, `${name}.magic expected ${hexBytes(magic)}`),
    ...wrong(u32(20) !== 1, `${name}.version expected 1`),
    ...wrong(
      u64(24) !== BigInt(where.offset),
      `${name}.start does not match pv_header.disk_locn.offset ${where.offset}`,
    ),
    ...wrong(u64(32) !== BigInt(where.size), `${name}.size does not match pv_header.disk_locn.size ${where.size}`),
  );
  for (const [slot, what] of ["commit", "precommit"].entries()) {
    const at = 40 + 24 * slot;
    const place = `${name}.raw_locn[${slot}]`;
    const [offset, size, flags] = [u64(at), u64(at + 8), u32(at + 20)];
    const wrapped = offset + size > BigInt(where.size) ? " wrapped" : "";
    lines.push(
      `  ${place} at ${where.offset + at} # ${what}${wrapped}`,
      `  ${place}.offset ${offset}`,
      `  ${place}.size ${size}`,
      `  ${place}.checksum ${hex(u32(at + 16))}`,
      `  ${place}.flags ${hex(flags)}${flags & 1 ? " # RAW_LOCN_IGNORED" : ""}`,
      ...wrong(slot === 1 && (offset !== 0n || size !== 0n), `${place} for ${what} not empty`),
    );
  }
  return lines;
}
