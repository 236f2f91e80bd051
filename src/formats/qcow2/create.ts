/** A new image: header, refcounts and an L1 table, made as a disk without bytes that then grows to its size. */

import type { HostFile } from "../../block/host-file.js";
import { alignUp } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import type { ImageWriter } from "../extensions.js";
import type { CreateOptions } from "../format.js";
import type { HeaderExtension } from "./extensions.js";
import { featureNameTable } from "./features.js";
import { l1EntriesFor } from "./geometry.js";
import { type CompressionType, encodeHeader, type Qcow2Header } from "./header.js";
import type { Qcow2Image } from "./image.js";
import {
  AUTOCLEAR,
  COMPATIBLE,
  EXTENSION,
  INCOMPATIBLE,
  MAX_CLUSTER_BITS,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_CLUSTER_BITS,
} from "./layout.js";
import { imageDevice, type OpenedImage } from "./open.js";
import { openTables } from "./open-tables.js";
import { qcow2Options } from "./options.js";
import { PointerTable } from "./pointer-table.js";
import { preallocate } from "./preallocate.js";
import { refcountWidth } from "./refcount-width.js";
import { growL1 } from "./resize.js";
import { Qcow2Writer } from "./writer.js";

/** As `qemu-img create -o` names and means them. */
export interface Qcow2Options {
  readonly clusterSize: number;
  /** 2 ("0.10") or 3 ("1.1"). */
  readonly version: 2 | 3;
  readonly lazyRefcounts: boolean;
  readonly refcountBits: number;
  readonly extendedL2: boolean;
  readonly compressionType: CompressionType;
  readonly backing: { readonly file: string; readonly format: string } | null;
  readonly dataFile: string | null;
  readonly dataFileRaw: boolean;
}

/** QEMU counts disks in these: a size between is rounded up, as qemu-img does. */
const SECTOR = 512;

export async function createDisk(host: HostFile, size: number, options: CreateOptions): Promise<void> {
  const { image } = await newImage(host, size, options);
  await image.flush();
  await image.file.trim();
  await image.dataFile?.close();
}

export async function createWriter(host: HostFile, size: number, options: CreateOptions): Promise<ImageWriter> {
  if (qcow2Options(options).dataFile !== null)
    throw wrongOptions(host.label, "compressed clusters with data_file", "one of them");
  return new Qcow2Writer(await newImage(host, size, options));
}

/** An image with everything that was asked for, not flushed. */
async function newImage(host: HostFile, size: number, options: CreateOptions): Promise<OpenedImage> {
  const values = qcow2Options(options);
  refuseOptions(values, host.label);
  if (options.backing && options.preallocation !== "off" && !values.extendedL2)
    throw wrongOptions(host.label, `preallocation ${options.preallocation} with a backing file`, "it with extended_l2");
  const image = await emptyImage(host, values);
  const bytes = alignUp(size, SECTOR);
  await growL1(image, Math.max(1, l1EntriesFor(bytes, image.geometry)));
  await image.writeHeader({ size: bytes });
  image.backing = options.backing?.device ?? null;
  if (values.dataFile !== null) {
    const file = await options.createExtent(values.dataFile);
    image.dataFile = file;
    await file.resize(bytes);
  }
  const opened = imageDevice(image);
  // A data file that is a disk by itself has all its bytes, so all of them are in the tables.
  const preallocation = values.dataFileRaw && options.preallocation === "off" ? "metadata" : options.preallocation;
  await preallocate(opened, 0, { ...options, preallocation });
  return opened;
}

/** An image of a disk without bytes: header, refcount table and one refcount block. */
async function emptyImage(host: HostFile, options: Qcow2Options): Promise<Qcow2Image> {
  const { clusterSize } = options;
  const header = newHeader(options);
  const refcounts = new DataView(new ArrayBuffer(clusterSize));
  const width = refcountWidth(header.refcountOrder);
  for (let cluster = 0; cluster < 3; cluster++) width.set(refcounts, cluster, 1);
  const table = new PointerTable(clusterSize, new Uint8Array(clusterSize));
  table.set(0, 2 * clusterSize, false);
  await host.resize(3 * clusterSize);
  await host.write(2 * clusterSize, new Uint8Array(refcounts.buffer));
  await host.write(clusterSize, table.bytes);
  await host.write(0, encodeHeader(header, `qcow2 ${host.label}`));
  const image = await openTables(host);
  await image.loadRefcounts();
  return image;
}

function newHeader(options: Qcow2Options): Qcow2Header {
  const { version } = options;
  const extensions: HeaderExtension[] = [];
  const text = (type: number, value: string) => extensions.push({ type, data: Buffer.from(value) });
  if (options.backing) text(EXTENSION.backingFormat, options.backing.format);
  if (options.dataFile !== null) text(EXTENSION.dataFile, options.dataFile);
  if (version === 3) extensions.push({ type: EXTENSION.featureNames, data: featureNameTable() });
  const flag = (set: boolean, mask: bigint) => (set ? mask : 0n);
  return {
    version,
    clusterBits: Math.log2(options.clusterSize),
    size: 0,
    cryptMethod: 0,
    l1Size: 0,
    l1TableOffset: 0,
    refcountTableOffset: options.clusterSize,
    refcountTableClusters: 1,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible:
      flag(options.dataFile !== null, INCOMPATIBLE.dataFile) |
      flag(options.compressionType !== "zlib", INCOMPATIBLE.compressionType) |
      flag(options.extendedL2, INCOMPATIBLE.extendedL2),
    compatible: flag(options.lazyRefcounts, COMPATIBLE.lazyRefcounts),
    autoclear: flag(options.dataFileRaw, AUTOCLEAR.rawDataFile),
    refcountOrder: Math.log2(options.refcountBits),
    compressionType: options.compressionType,
    unknownFields: new Uint8Array(0),
    extensions,
    backingFile: options.backing?.file ?? null,
  };
}

/** Throws `UNSUPPORTED`, as wrong usage, for options that are out of range or do not go together. */
function refuseOptions(options: Qcow2Options, label: string): void {
  const refuse = (found: string, allowed: string) => wrongOptions(label, found, allowed);
  const clusterBits = Math.log2(options.clusterSize);
  if (!Number.isInteger(clusterBits) || clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS)
    throw refuse(
      `cluster_size is ${options.clusterSize}`,
      `powers of two in ${2 ** MIN_CLUSTER_BITS}..${2 ** MAX_CLUSTER_BITS}`,
    );
  if (![1, 2, 4, 8, 16, 32, 64].includes(options.refcountBits))
    throw refuse(`refcount_bits is ${options.refcountBits}`, "1 2 4 8 16 32 64");
  if (options.extendedL2 && clusterBits < MIN_EXTENDED_CLUSTER_BITS)
    throw refuse(
      `extended_l2 with cluster_size ${options.clusterSize}`,
      `clusters of ${2 ** MIN_EXTENDED_CLUSTER_BITS} and more`,
    );
  if (options.dataFileRaw && options.dataFile === null) throw refuse("data_file_raw without data_file", "both");
  if (options.dataFileRaw && options.backing) throw refuse("data_file_raw with a backing file", "one of them");
  if (options.version === 3) return;
  const needs: [string, boolean][] = [
    ["lazy_refcounts", options.lazyRefcounts],
    [`refcount_bits ${options.refcountBits}`, options.refcountBits !== 16],
    ["extended_l2", options.extendedL2],
    [`compression_type ${options.compressionType}`, options.compressionType !== "zlib"],
    ["data_file", options.dataFile !== null],
  ];
  const found = needs.find(([, used]) => used);
  if (found) throw refuse(`${found[0]} with compat 0.10`, "compat 1.1 for it");
}

function wrongOptions(label: string, found: string, allowed: string): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot create qcow2 ${label}: ${found}, allowed ${allowed}`, {
    details: { usage: true },
  });
}
