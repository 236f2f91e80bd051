/** The header as a value: decoded with every number checked against what is allowed, encoded with everything unknown kept. */
import { alignUp } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import { decodeExtensions, encodeExtensions, type HeaderExtension, type HeaderOwner } from "./extensions.js";
import { checkFeatures } from "./features.js";
import {
  COMPRESSION_TYPE_OFFSET,
  EXTENSION,
  INCOMPATIBLE,
  MAX_BACKING_NAME,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MAX_REFCOUNT_TABLE_BYTES,
  MAX_SNAPSHOTS,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_CLUSTER_BITS,
  QCOW2_HEADER,
  QCOW2_HEADER_V3,
  type Qcow2HeaderFields,
  V2_REFCOUNT_ORDER,
  V3_OFFSET,
} from "./layout.js";

export const COMPRESSION_TYPES = ["zlib", "zstd"] as const;
export type CompressionType = (typeof COMPRESSION_TYPES)[number];

export interface Qcow2Header extends Omit<Qcow2HeaderFields, "magic" | "backingFileOffset" | "backingFileSize"> {
  incompatible: bigint;
  compatible: bigint;
  autoclear: bigint;
  refcountOrder: number;
  compressionType: CompressionType;
  /** Fields behind those that are known here, kept as they are. */
  unknownFields: Uint8Array;
  extensions: HeaderExtension[];
  /** As it is written in the image; null without one. */
  backingFile: string | null;
}

/** Bytes of the file's begin that hold the fixed fields. */
export const HEADER_HEAD = 512;

/** Decodes the first cluster (or what the file has of it). Throws `CORRUPT` or `UNSUPPORTED`. */
export function decodeHeader(bytes: Uint8Array, label: string, fileSize: number): Qcow2Header {
  const refuse = refuser(label);
  const { magic: _, backingFileOffset, backingFileSize, ...fixed } = decodeFixed(bytes, label);
  if (fixed.version !== 2 && fixed.version !== 3)
    throw new DiskError("UNSUPPORTED", `Cannot open ${label}: version is ${fixed.version}, allowed 2 and 3 (byte 4)`);
  if (fixed.clusterBits < MIN_CLUSTER_BITS || fixed.clusterBits > MAX_CLUSTER_BITS)
    throw refuse("cluster_bits", fixed.clusterBits, `${MIN_CLUSTER_BITS}..${MAX_CLUSTER_BITS}`, 20);
  const extra = fixed.version === 2 ? VERSION_2 : decodeVersion3(bytes, fixed.clusterBits, refuse);
  const { headerLength, ...features } = extra;
  const extensions = decodeExtensions(bytes, headerLength, fixed.version, backingFileOffset, label);
  checkFeatures(features.incompatible, extensions, label);
  checkEncryption(fixed.cryptMethod, label);
  if (features.incompatible & INCOMPATIBLE.extendedL2 && fixed.clusterBits < MIN_EXTENDED_CLUSTER_BITS)
    throw refuse(
      "cluster_bits",
      fixed.clusterBits,
      `${MIN_EXTENDED_CLUSTER_BITS} and more with extended L2 entries`,
      20,
    );
  const header: Qcow2Header = {
    ...fixed,
    ...features,
    extensions,
    backingFile: decodeBackingFile(bytes, backingFileOffset, backingFileSize, refuse),
  };
  checkTables(header, fileSize, refuse);
  return header;
}

type Refuse = (field: string, found: number | string, allowed: string, byte: number) => DiskError;

function refuser(label: string): Refuse {
  return (field, found, allowed, byte) =>
    new DiskError("CORRUPT", `Cannot open ${label}: ${field} is ${found}, allowed ${allowed} (byte ${byte})`, {
      details: { field, byte },
    });
}

function decodeFixed(bytes: Uint8Array, label: string): Qcow2HeaderFields {
  try {
    return QCOW2_HEADER.decode(bytes);
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    throw new DiskError("CORRUPT", `Cannot open ${label}: ${error.message.replace(/^Cannot read /, "")}`, {
      details: error.details,
      cause: error,
    });
  }
}

const VERSION_2 = {
  incompatible: 0n,
  compatible: 0n,
  autoclear: 0n,
  refcountOrder: V2_REFCOUNT_ORDER,
  headerLength: QCOW2_HEADER.size,
  compressionType: "zlib" as CompressionType,
  unknownFields: new Uint8Array(0),
};

function decodeVersion3(bytes: Uint8Array, clusterBits: number, refuse: Refuse): typeof VERSION_2 {
  if (bytes.length < V3_OFFSET + QCOW2_HEADER_V3.size)
    throw refuse("the file", `${bytes.length} bytes long`, "104 and more", 0);
  const { headerLength, refcountOrder, ...features } = QCOW2_HEADER_V3.decode(bytes, V3_OFFSET);
  const most = Math.min(2 ** clusterBits, bytes.length);
  if (headerLength < COMPRESSION_TYPE_OFFSET || headerLength > most || headerLength % 8 !== 0)
    throw refuse("header_length", headerLength, `multiples of 8 in ${COMPRESSION_TYPE_OFFSET}..${most}`, 100);
  if (refcountOrder > 6) throw refuse("refcount_order", refcountOrder, "0..6", 96);
  const type = headerLength > COMPRESSION_TYPE_OFFSET ? bytes[COMPRESSION_TYPE_OFFSET]! : 0;
  const announced = (features.incompatible & INCOMPATIBLE.compressionType) !== 0n;
  const compressionType = COMPRESSION_TYPES[type];
  if (!compressionType || announced !== type > 0)
    throw refuse("compression_type", type, announced ? "1 (zstd)" : "0 (zlib)", COMPRESSION_TYPE_OFFSET);
  const unknownFields = bytes.slice(COMPRESSION_TYPE_OFFSET + 1, headerLength);
  return { ...features, refcountOrder, headerLength, compressionType, unknownFields };
}

function checkEncryption(method: number, label: string): void {
  if (method === 0) return;
  const name = method === 1 ? "AES" : method === 2 ? "LUKS" : `crypt_method ${method}`;
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot open ${label}: it is encrypted (${name}), allowed images without encryption (qemu-img convert makes one with the key)`,
    { details: { encryption: name } },
  );
}

function decodeBackingFile(bytes: Uint8Array, offset: number, size: number, refuse: Refuse): string | null {
  if (offset === 0) return null;
  if (size > MAX_BACKING_NAME) throw refuse("backing_file_size", size, `0..${MAX_BACKING_NAME}`, 16);
  if (offset + size > bytes.length) throw refuse("backing_file_offset", offset, "within the first cluster", 8);
  return size === 0 ? null : new TextDecoder().decode(bytes.subarray(offset, offset + size));
}

/** Offsets and sizes of the tables, before anybody allocates memory for them. */
function checkTables(header: Qcow2Header, fileSize: number, refuse: Refuse): void {
  const clusterSize = 2 ** header.clusterBits;
  const aligned = (offset: number) => offset % clusterSize === 0;
  const inFile = `multiples of ${clusterSize} below ${fileSize}`;
  if (header.l1Size * 8 > MAX_L1_BYTES) throw refuse("l1_size", header.l1Size, `0..${MAX_L1_BYTES / 8}`, 36);
  const reach = (clusterSize / (header.incompatible & INCOMPATIBLE.extendedL2 ? 16 : 8)) * clusterSize;
  const needed = Math.ceil(header.size / reach);
  if (needed > header.l1Size) throw refuse("l1_size", header.l1Size, `${needed} and more for ${header.size} bytes`, 36);
  if (
    header.l1Size > 0 &&
    (!aligned(header.l1TableOffset) || header.l1TableOffset + header.l1Size * 8 > alignUp(fileSize, clusterSize))
  )
    throw refuse("l1_table_offset", header.l1TableOffset, inFile, 40);
  if (header.refcountTableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES || header.refcountTableClusters === 0)
    throw refuse(
      "refcount_table_clusters",
      header.refcountTableClusters,
      `1..${MAX_REFCOUNT_TABLE_BYTES / clusterSize}`,
      56,
    );
  if (!aligned(header.refcountTableOffset) || header.refcountTableOffset >= fileSize)
    throw refuse("refcount_table_offset", header.refcountTableOffset, inFile, 48);
  if (header.snapshotCount > MAX_SNAPSHOTS)
    throw refuse("nb_snapshots", header.snapshotCount, `0..${MAX_SNAPSHOTS}`, 60);
  if (header.snapshotCount > 0 && (!aligned(header.snapshotsOffset) || header.snapshotsOffset >= fileSize))
    throw refuse("snapshots_offset", header.snapshotsOffset, inFile, 64);
}

/** The header with its extensions and the backing file's name, as it begins the file. */
export function encodeHeader(header: Qcow2Header, label: string): Uint8Array {
  const clusterSize = 2 ** header.clusterBits;
  const known =
    header.compressionType !== "zlib" || header.unknownFields.length > 0
      ? alignUp(COMPRESSION_TYPE_OFFSET + 1 + header.unknownFields.length, 8)
      : COMPRESSION_TYPE_OFFSET;
  const headerLength = header.version === 2 ? QCOW2_HEADER.size : known;
  const name = Buffer.from(header.backingFile ?? "");
  const room = clusterSize - headerLength - name.length;
  let extensions = encodeExtensions(header.extensions);
  // The names of features are for the reader's convenience: in the smallest clusters they make way for the backing file.
  if (extensions.length > room)
    extensions = encodeExtensions(header.extensions.filter(({ type }) => type !== EXTENSION.featureNames));
  const nameAt = headerLength + extensions.length;
  if (name.length > MAX_BACKING_NAME || extensions.length > room)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot write ${label}: the backing file's name has ${name.length} bytes, allowed ${Math.min(MAX_BACKING_NAME, Math.max(0, clusterSize - nameAt))} with clusters of ${clusterSize} bytes`,
    );
  const bytes = new Uint8Array(nameAt + name.length);
  QCOW2_HEADER.encode(
    { ...header, backingFileOffset: name.length > 0 ? nameAt : 0, backingFileSize: name.length },
    bytes,
  );
  if (header.version === 3) {
    QCOW2_HEADER_V3.encode({ ...header, headerLength }, bytes, V3_OFFSET);
    if (headerLength > COMPRESSION_TYPE_OFFSET) {
      bytes[COMPRESSION_TYPE_OFFSET] = COMPRESSION_TYPES.indexOf(header.compressionType);
      bytes.set(header.unknownFields, COMPRESSION_TYPE_OFFSET + 1);
    }
  }
  bytes.set(extensions, headerLength);
  bytes.set(name, nameAt);
  return bytes;
}

/** The text of an extension that is a string: the backing format, the data file's name. */
export function extensionText(header: HeaderOwner, type: number): string | null {
  const found = header.extensions.find((extension) => extension.type === type);
  return found ? new TextDecoder().decode(found.data) : null;
}

export const backingFormatOf = (header: HeaderOwner) => extensionText(header, EXTENSION.backingFormat);
