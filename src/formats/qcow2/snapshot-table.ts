/** The snapshot table: variable-length entries, decoded and encoded with the extra data that others wrote. Section Snapshots. */
import { alignUp } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import type { Qcow2Image } from "./image.js";
import {
  MAX_L1_BYTES,
  MAX_SNAPSHOT_EXTRA,
  MAX_SNAPSHOT_TABLE_BYTES,
  QCOW2_SNAPSHOT,
  QCOW2_SNAPSHOT_EXTRA,
} from "./layout.js";

export interface Snapshot {
  readonly l1TableOffset: number;
  readonly l1Size: number;
  readonly id: string;
  readonly name: string;
  readonly seconds: number;
  readonly nanoseconds: number;
  readonly vmClock: bigint;
  readonly vmStateSize: bigint;
  /** Bytes; null in images of version 2 that do not say it: the disk had the size that it has now. */
  readonly diskSize: number | null;
  /** Extra data behind what is known here. */
  readonly moreExtra: Uint8Array;
}

const NONE = new Uint8Array(0);
/** Entries are read in pieces of this: their sizes are not known before. */
const PIECE = 64 << 10;

export interface SnapshotTable {
  readonly snapshots: Snapshot[];
  /** Bytes. */
  readonly size: number;
}

/** Throws `CORRUPT` for entries that contradict the format or its limits. */
export async function readSnapshots({ header, file, label, geometry }: Qcow2Image): Promise<SnapshotTable> {
  const snapshots: Snapshot[] = [];
  let bytes = new Uint8Array(0);
  let at = 0;
  const need = async (end: number) => {
    if (end <= bytes.length) return;
    if (end > MAX_SNAPSHOT_TABLE_BYTES || header.snapshotsOffset + end > alignUp(file.size, geometry.clusterSize))
      throw corrupt(label, snapshots.length, `it would end at byte ${end} of the table`);
    const more = new Uint8Array(alignUp(end, PIECE));
    await file.read(header.snapshotsOffset, more);
    bytes = more;
  };
  for (let i = 0; i < header.snapshotCount; i++) {
    await need(at + QCOW2_SNAPSHOT.size);
    const { idSize, nameSize, extraDataSize, vmStateSize32, ...fields } = QCOW2_SNAPSHOT.decode(bytes, at);
    if (extraDataSize > MAX_SNAPSHOT_EXTRA) throw corrupt(label, i, `it has ${extraDataSize} bytes of extra data`);
    if (fields.l1Size * 8 > MAX_L1_BYTES || fields.l1TableOffset % geometry.clusterSize !== 0)
      throw corrupt(label, i, `its L1 table has ${fields.l1Size} entries at byte ${fields.l1TableOffset}`);
    const extraAt = at + QCOW2_SNAPSHOT.size;
    const idAt = extraAt + extraDataSize;
    const end = idAt + idSize + nameSize;
    await need(end);
    const extra = new Uint8Array(QCOW2_SNAPSHOT_EXTRA.size);
    extra.set(bytes.subarray(extraAt, Math.min(idAt, extraAt + extra.length)));
    const { vmStateSize, diskSize } = QCOW2_SNAPSHOT_EXTRA.decode(extra);
    snapshots.push({
      ...fields,
      id: textOf(bytes, idAt, idSize),
      name: textOf(bytes, idAt + idSize, nameSize),
      vmStateSize: extraDataSize >= 8 ? vmStateSize : BigInt(vmStateSize32),
      diskSize: extraDataSize >= extra.length ? diskSize : null,
      moreExtra: extraDataSize > extra.length ? bytes.slice(extraAt + extra.length, idAt) : NONE,
    });
    at = alignUp(end, 8);
  }
  return { snapshots, size: at };
}

export function encodeSnapshots(snapshots: readonly Snapshot[], diskSize: number): Uint8Array {
  return Buffer.concat(
    snapshots.map((snapshot) => {
      const [id, name] = [Buffer.from(snapshot.id), Buffer.from(snapshot.name)];
      const extraSize = QCOW2_SNAPSHOT_EXTRA.size + snapshot.moreExtra.length;
      const idAt = QCOW2_SNAPSHOT.size + extraSize;
      const bytes = new Uint8Array(alignUp(idAt + id.length + name.length, 8));
      const vmStateSize32 = Number(snapshot.vmStateSize & 0xffff_ffffn);
      const sizes = { idSize: id.length, nameSize: name.length, extraDataSize: extraSize, vmStateSize32 };
      QCOW2_SNAPSHOT.encode({ ...snapshot, ...sizes }, bytes);
      QCOW2_SNAPSHOT_EXTRA.encode(
        { vmStateSize: snapshot.vmStateSize, diskSize: snapshot.diskSize ?? diskSize },
        bytes,
        QCOW2_SNAPSHOT.size,
      );
      bytes.set(snapshot.moreExtra, QCOW2_SNAPSHOT.size + QCOW2_SNAPSHOT_EXTRA.size);
      bytes.set(id, idAt);
      bytes.set(name, idAt + id.length);
      return bytes;
    }),
  );
}

function textOf(bytes: Uint8Array, at: number, size: number): string {
  return new TextDecoder().decode(bytes.subarray(at, at + size));
}

function corrupt(label: string, index: number, found: string): DiskError {
  return new DiskError("CORRUPT", `Cannot use ${label}: entry ${index} of the snapshot table is not one: ${found}`, {
    details: { snapshot: index },
  });
}
