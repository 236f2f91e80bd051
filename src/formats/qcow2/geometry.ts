/** Sizes that follow from the header: how many entries a table has, and what they reach. */
import { SUBCLUSTERS } from "./layout.js";

export interface Geometry {
  readonly version: number;
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly extendedL2: boolean;
  /** Parts of a cluster that are allocated on their own: 32 with extended L2 entries, else 1. */
  readonly subclusters: number;
  readonly subclusterSize: number;
  /** Bytes of an L2 entry. */
  readonly l2EntrySize: number;
  readonly l2Entries: number;
  /** Guest bytes that one L2 table describes. */
  readonly l2Reach: number;
  readonly refcountOrder: number;
  /** Clusters that one refcount block counts. */
  readonly refcountBlockEntries: number;
  /** Metadata is read, kept and written in slices of this many bytes. */
  readonly sliceSize: number;
}

/** A page: small enough for random access to tables of 2 MiB, and written without reading around it. */
const SLICE = 4096;

export function geometryOf(header: {
  version: number;
  clusterBits: number;
  refcountOrder: number;
  extendedL2: boolean;
}): Geometry {
  const { version, clusterBits, refcountOrder, extendedL2 } = header;
  const clusterSize = 2 ** clusterBits;
  const subclusters = extendedL2 ? SUBCLUSTERS : 1;
  const l2EntrySize = extendedL2 ? 16 : 8;
  const l2Entries = clusterSize / l2EntrySize;
  return {
    version,
    clusterBits,
    clusterSize,
    extendedL2,
    subclusters,
    subclusterSize: clusterSize / subclusters,
    l2EntrySize,
    l2Entries,
    l2Reach: l2Entries * clusterSize,
    refcountOrder,
    refcountBlockEntries: (clusterSize * 8) / 2 ** refcountOrder,
    sliceSize: Math.min(clusterSize, SLICE),
  };
}

/** Entries of an L1 table for a disk of `size` bytes. */
export function l1EntriesFor(size: number, geometry: Geometry): number {
  return Math.ceil(size / geometry.l2Reach);
}
