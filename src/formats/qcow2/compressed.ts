/** Compressed clusters: raw deflate with a window of 4 KiB, or one zstd frame. Each is a small device; the last few stay unpacked. */
import { type BlockDevice, defineDevice } from "../../block/device.js";
import { loadCodec, type Packing } from "../../bytes/packing.js";
import { DiskError } from "../../errors.js";
import type { GrowingFile } from "./growing-file.js";
import type { CompressionType } from "./header.js";
import type { Compressed } from "./l2-entries.js";

/** As qemu-img packs: its decoder of deflate has a window of 4 KiB and no more. */
export const PACKING: Record<CompressionType, Packing> = {
  zlib: { method: "deflate", level: 6, windowBits: 12 },
  zstd: { method: "zstd", level: 3 },
};

/** Unpacked clusters are kept up to this many bytes, for readers that ask for less than a cluster; at least two clusters. */
const CACHE_BYTES = 2 << 20;

export class CompressedClusters {
  readonly #file: GrowingFile;
  readonly #label: string;
  readonly #type: CompressionType;
  readonly #clusterSize: number;
  /** By where they lie, the oldest first. */
  readonly #unpacked = new Map<number, Promise<Uint8Array>>();

  constructor(file: GrowingFile, label: string, type: CompressionType, clusterSize: number) {
    this.#file = file;
    this.#label = label;
    this.#type = type;
    this.#clusterSize = clusterSize;
  }

  /** One cluster, for reading. */
  device(place: Compressed): BlockDevice {
    return defineDevice({
      label: `${this.#label}, compressed cluster at ${place.offset}`,
      size: this.#clusterSize,
      read: async (offset, into) => {
        const cluster = await this.#cluster(place);
        into.set(cluster.subarray(offset, offset + into.length));
      },
    });
  }

  #cluster(place: Compressed): Promise<Uint8Array> {
    const known = this.#unpacked.get(place.offset);
    if (known) return known;
    const cluster = this.#unpack(place);
    cluster.catch(() => this.#unpacked.delete(place.offset));
    this.#unpacked.set(place.offset, cluster);
    const [oldest] = this.#unpacked.keys();
    if (this.#unpacked.size > Math.max(2, CACHE_BYTES / this.#clusterSize)) this.#unpacked.delete(oldest!);
    return cluster;
  }

  async #unpack({ offset, length }: Compressed): Promise<Uint8Array> {
    if (offset >= this.#file.size) throw this.#corrupt(offset, `the file ends at ${this.#file.size}`);
    const packed = new Uint8Array(length);
    await this.#file.read(offset, packed);
    const codec = await loadCodec(PACKING[this.#type].method);
    try {
      return await codec.unpack(packed, this.#clusterSize);
    } catch (error) {
      throw error instanceof DiskError ? this.#corrupt(offset, error.message.replace(/^[^:]*: /, ""), error) : error;
    }
  }

  #corrupt(offset: number, found: string, cause?: unknown): DiskError {
    const text = `Cannot read ${this.#label}: the compressed cluster at byte ${offset} is not ${this.#type}: ${found}`;
    return new DiskError("CORRUPT", text, { details: { offset }, cause });
  }

  /** Forgets what is unpacked: the clusters were given to somebody else. */
  clear(): void {
    this.#unpacked.clear();
  }
}
