/** qcow2 versions 2 and 3: every structure of the file. QEMU docs/interop/qcow2 (8.x). All numbers are big-endian. */
import { bit, bits } from "../../bytes/bits.js";
import { bytes, count64, magic, reserved, u8, u16, u32, u64 } from "../../bytes/field-types.js";
import { at, type Decoded, layout } from "../../bytes/layout.js";

const SPEC = "QEMU docs/interop/qcow2";

export const QCOW2_HEADER = layout(
  "qcow2 header",
  { endian: "be", size: 72, spec: `${SPEC}, Header` },
  {
    magic: at(0, magic("QFI\xfb"), "identifies the file"),
    version: at(4, u32, "2 or 3"),
    backingFileOffset: at(8, count64, "byte of the backing file's name, 0 without one"),
    backingFileSize: at(16, u32, "bytes of that name, at most 1023"),
    clusterBits: at(20, u32, "cluster size is 1 << this"),
    size: at(24, count64, "bytes of the virtual disk"),
    cryptMethod: at(32, u32, "0 none, 1 AES, 2 LUKS"),
    l1Size: at(36, u32, "entries of the active L1 table"),
    l1TableOffset: at(40, count64, "byte of the active L1 table"),
    refcountTableOffset: at(48, count64, "byte of the refcount table"),
    refcountTableClusters: at(56, u32, "clusters of the refcount table"),
    snapshotCount: at(60, u32, "snapshots in the snapshot table"),
    snapshotsOffset: at(64, count64, "byte of the snapshot table"),
  },
);
export type Qcow2HeaderFields = Decoded<typeof QCOW2_HEADER>;

/** What version 3 adds, at byte 72. */
export const QCOW2_HEADER_V3 = layout(
  "qcow2 header, version 3",
  { endian: "be", size: 32, spec: `${SPEC}, Header` },
  {
    incompatible: at(0, u64, "features without which nobody may open the image"),
    compatible: at(8, u64, "features that may be ignored"),
    autoclear: at(16, u64, "features that a writer who does not know them must clear"),
    refcountOrder: at(24, u32, "refcounts have 1 << this bits"),
    headerLength: at(28, u32, "bytes of the header, a multiple of 8"),
  },
);
export const V3_OFFSET = 72;
/** Byte of `compression_type`, present when the header is longer than this. */
export const COMPRESSION_TYPE_OFFSET = 104;

export const QCOW2_EXTENSION = layout(
  "qcow2 header extension",
  { endian: "be", size: 8, spec: `${SPEC}, Header extensions` },
  {
    type: at(0, u32, "what the data is"),
    length: at(4, u32, "bytes of data; padded to a multiple of 8"),
  },
);

export const QCOW2_FEATURE_NAME = layout(
  "qcow2 feature name",
  { endian: "be", size: 48, spec: `${SPEC}, Feature name table` },
  {
    type: at(0, u8, "0 incompatible, 1 compatible, 2 autoclear"),
    bit: at(1, u8, "bit of that word"),
    name: at(2, bytes(46), "padded with zeros"),
  },
);

export const QCOW2_BITMAPS = layout(
  "qcow2 bitmaps extension",
  { endian: "be", size: 24, spec: `${SPEC}, Bitmaps extension` },
  {
    count: at(0, u32, "bitmaps in the directory"),
    reserved: at(4, reserved(4), "zero"),
    directorySize: at(8, count64, "bytes of the directory"),
    directoryOffset: at(16, count64, "byte of the directory"),
  },
);

export const QCOW2_BITMAP_ENTRY = layout(
  "qcow2 bitmap directory entry",
  { endian: "be", size: 24, spec: `${SPEC}, Bitmap directory` },
  {
    tableOffset: at(0, count64, "byte of the bitmap's table"),
    tableSize: at(8, u32, "entries of that table"),
    flags: at(12, u32, "1 in use, 2 auto, 4 extra data compatible"),
    type: at(16, u8, "1 dirty tracking"),
    granularityBits: at(17, u8, "a bit stands for 1 << this bytes"),
    nameSize: at(18, u16, "bytes of the name"),
    extraDataSize: at(20, u32, "bytes before the name"),
  },
);
export const BITMAP_IN_USE = 1;
export const BITMAP_AUTO = 2;

export const QCOW2_SNAPSHOT = layout(
  "qcow2 snapshot table entry",
  { endian: "be", size: 40, spec: `${SPEC}, Snapshots` },
  {
    l1TableOffset: at(0, count64, "byte of the snapshot's L1 table"),
    l1Size: at(8, u32, "entries of that table"),
    idSize: at(12, u16, "bytes of the unique ID"),
    nameSize: at(14, u16, "bytes of the name"),
    seconds: at(16, u32, "when it was taken, since 1970"),
    nanoseconds: at(20, u32, "and the fraction of a second"),
    vmClock: at(24, u64, "nanoseconds that the guest had run"),
    vmStateSize32: at(32, u32, "bytes of VM state, when the extra data does not say"),
    extraDataSize: at(36, u32, "bytes of extra data that follow"),
  },
);

/** The extra data of a snapshot as QEMU writes it; entries of others may have less or more. */
export const QCOW2_SNAPSHOT_EXTRA = layout(
  "qcow2 snapshot extra data",
  { endian: "be", size: 16, spec: `${SPEC}, Snapshots` },
  {
    vmStateSize: at(0, u64, "bytes of VM state"),
    diskSize: at(8, count64, "bytes of the virtual disk"),
  },
);

export const EXTENSION = {
  end: 0,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  encryption: 0x0537be77,
  dataFile: 0x44415441,
} as const;

export const INCOMPATIBLE = {
  dirty: bit(0),
  corrupt: bit(1),
  dataFile: bit(2),
  compressionType: bit(3),
  extendedL2: bit(4),
} as const;
export const COMPATIBLE = { lazyRefcounts: bit(0) } as const;
export const AUTOCLEAR = { bitmaps: bit(0), rawDataFile: bit(1) } as const;

/** QEMU's limits, which are this driver's too. */
export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
export const MIN_EXTENDED_CLUSTER_BITS = 14;
export const MAX_L1_BYTES = 32 << 20;
export const MAX_REFCOUNT_TABLE_BYTES = 8 << 20;
export const MAX_SNAPSHOTS = 65536;
export const MAX_SNAPSHOT_TABLE_BYTES = 64 << 20;
export const MAX_SNAPSHOT_EXTRA = 1024;
export const MAX_BITMAPS = 65535;
export const MAX_BITMAP_DIRECTORY_BYTES = 64 << 20;
export const MAX_BACKING_NAME = 1023;
export const SUBCLUSTERS = 32;

/** A 64-bit mask as the two 32-bit words that the hot path reads. */
export const words = (mask: bigint) => ({ high: Number(mask >> 32n), low: Number(mask & 0xffff_ffffn) });

/** L1 and L2 entries, Cluster mapping. */
export const OFFSET_BITS = words(bits(9, 55));
export const COPIED_BIT = words(bit(63));
export const COMPRESSED_BIT = words(bit(62));
export const ZERO_BIT = words(bit(0));
export const RESERVED_L1_BITS = words(bits(0, 8) | bits(56, 62));
export const RESERVED_L2_BITS = words(bits(1, 8) | bits(56, 61));
export const RESERVED_REFCOUNT_TABLE_BITS = words(bits(0, 8));

export const RESERVED_BITMAP_BITS = words(bits(1, 8) | bits(56, 63));
/** What an L2 entry says of its cluster, beside the two flags. */
export const DESCRIPTOR_BITS = words(bits(0, 61));

/** The refcount width of version 2. */
export const V2_REFCOUNT_ORDER = 4;
