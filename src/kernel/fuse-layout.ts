/**
 * Messages between the kernel and the program that serves a FUSE file system (linux/fuse.h, ABI 7.23 to 7.45).
 * Every request is a header and a body; every reply a header, and a body when it succeeded. Only what one file of a fixed
 * size needs is here. Fields are in the machine's own byte order, which is little-endian wherever this runs.
 */
import { code, count64, reserved, s32, u16, u32, u64 } from "../bytes/field-types.js";
import { at, layout } from "../bytes/layout.js";

const SPEC = "linux/fuse.h 7.45";

export const FUSE_MAJOR = 7;
/** Below it the kernel's structures are shorter than ours (Linux 3.15). */
export const FUSE_OLDEST_MINOR = 23;
/** What the layouts here describe. */
export const FUSE_MINOR = 31;

export const FUSE_OP = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  FLUSH: 25,
  INIT: 26,
  ACCESS: 34,
  INTERRUPT: 36,
  DESTROY: 38,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  LSEEK: 46,
} as const;

/** Of fuse_init_in and fuse_init_out. */
export const FUSE_INIT_FLAG = {
  ASYNC_READ: 1 << 0,
  BIG_WRITES: 1 << 5,
  ASYNC_DIO: 1 << 15,
  MAX_PAGES: 1 << 22,
} as const;

/** Of fuse_open_out: reads and writes reach us as they are, several at a time. */
export const FOPEN_DIRECT_IO = 1 << 0;
/** Closing a descriptor asks us nothing: one that closes because its process dies would wait for that very process. */
export const FOPEN_NOFLUSH = 1 << 5;
export const FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6;

/** The root folder has this number; the file inside it the next. */
export const FUSE_ROOT_NODE = 1;
export const FUSE_FILE_NODE = 2;

export const IN_HEADER = layout(
  "FUSE request header",
  { endian: "le", size: 40, spec: `${SPEC}, fuse_in_header` },
  {
    length: at(0, u32, "bytes of the message with this header"),
    opcode: at(4, u32, "FUSE_OP"),
    unique: at(8, u64, "names the request in its reply"),
    node: at(16, u64, "1 the root folder, others as LOOKUP answered"),
    uid: at(24, u32, "caller's user"),
    gid: at(28, u32, "caller's group"),
    pid: at(32, u32, "caller's process"),
    extensionLength: at(36, u16, "8-byte units of extensions behind the body"),
    padding: at(38, reserved(2), "0"),
  },
);

export const OUT_HEADER = layout(
  "FUSE reply header",
  { endian: "le", size: 16, spec: `${SPEC}, fuse_out_header` },
  {
    length: at(0, u32, "bytes of the message with this header"),
    error: at(4, s32, "0 or a negative errno"),
    unique: at(8, u64, "of the request"),
  },
);

/** Since 7.36 longer than this; what follows is not needed. */
export const INIT_IN = layout(
  "FUSE INIT request",
  { endian: "le", size: 16, spec: `${SPEC}, fuse_init_in` },
  {
    major: at(0, u32, "of the kernel's ABI"),
    minor: at(4, u32, "of the kernel's ABI"),
    maxReadahead: at(8, u32, "bytes"),
    flags: at(12, u32, "FUSE_INIT_FLAG: what the kernel can"),
  },
);

export const INIT_OUT = layout(
  "FUSE INIT reply",
  { endian: "le", size: 64, spec: `${SPEC}, fuse_init_out` },
  {
    major: at(0, u32, "of our ABI"),
    minor: at(4, u32, "of our ABI"),
    maxReadahead: at(8, u32, "bytes"),
    flags: at(12, u32, "FUSE_INIT_FLAG: what is used"),
    maxBackground: at(16, u16, "asynchronous requests at a time"),
    congestionThreshold: at(18, u16, "of those, before writeback holds back"),
    maxWrite: at(20, u32, "bytes of data in a WRITE"),
    timeGranularity: at(24, u32, "nanoseconds"),
    maxPages: at(28, u16, "pages of data in a request"),
    mapAlignment: at(30, u16, "for DAX"),
    flags2: at(32, u32, "the flags above 32"),
    maxStackDepth: at(36, u32, "for passthrough"),
    requestTimeout: at(40, u16, "seconds, 0 none"),
    unused: at(42, reserved(22), "0"),
  },
);

const ATTRIBUTES = {
  ino: at(0, u64, "inode number"),
  size: at(8, count64, "bytes"),
  blocks: at(16, count64, "units of 512 bytes"),
  times: at(24, reserved(24), "seconds of atime, mtime, ctime"),
  timeFractions: at(48, reserved(12), "their nanoseconds"),
  mode: at(60, u32, "type and permissions"),
  links: at(64, u32, "names"),
  uid: at(68, u32, "owner"),
  gid: at(72, u32, "group"),
  rdev: at(76, u32, "of a device node"),
  blockSize: at(80, u32, "bytes, for stat"),
  flags: at(84, u32, "FUSE_ATTR_*"),
};

export const ATTR = layout("FUSE attributes", { endian: "le", size: 88, spec: `${SPEC}, fuse_attr` }, ATTRIBUTES);

/** Followed by the attributes. */
export const ENTRY_OUT = layout(
  "FUSE LOOKUP reply",
  { endian: "le", size: 40, spec: `${SPEC}, fuse_entry_out up to attr` },
  {
    node: at(0, u64, "number of what was found"),
    generation: at(8, u64, "of that number's use"),
    entryValid: at(16, u64, "seconds that the name may be kept"),
    attrValid: at(24, u64, "seconds that the attributes may be kept"),
    entryValidFraction: at(32, u32, "nanoseconds"),
    attrValidFraction: at(36, u32, "nanoseconds"),
  },
);

/** Followed by the attributes. */
export const ATTR_OUT = layout(
  "FUSE GETATTR reply",
  { endian: "le", size: 16, spec: `${SPEC}, fuse_attr_out up to attr` },
  {
    attrValid: at(0, u64, "seconds that the attributes may be kept"),
    attrValidFraction: at(8, u32, "nanoseconds"),
    padding: at(12, reserved(4), "0"),
  },
);

export const OPEN_IN = layout(
  "FUSE OPEN request",
  { endian: "le", size: 8, spec: `${SPEC}, fuse_open_in` },
  {
    flags: at(0, u32, "O_* of open(2)"),
    openFlags: at(4, u32, "FUSE_OPEN_*"),
  },
);

export const OPEN_OUT = layout(
  "FUSE OPEN reply",
  { endian: "le", size: 16, spec: `${SPEC}, fuse_open_out` },
  {
    handle: at(0, u64, "ours, given back in every request"),
    openFlags: at(8, u32, "FOPEN_*"),
    backing: at(12, s32, "for passthrough"),
  },
);

/** READ and WRITE are the same up to the names; WRITE's data follows. */
export const IO_IN = layout(
  "FUSE READ or WRITE request",
  { endian: "le", size: 40, spec: `${SPEC}, fuse_read_in, fuse_write_in` },
  {
    handle: at(0, u64, "of OPEN"),
    offset: at(8, u64, "bytes"),
    size: at(16, u32, "bytes"),
    ioFlags: at(20, u32, "FUSE_READ_*, FUSE_WRITE_*"),
    lockOwner: at(24, u64, "of the caller"),
    flags: at(32, u32, "O_* of the file"),
    padding: at(36, reserved(4), "0"),
  },
);

export const WRITE_OUT = layout(
  "FUSE WRITE reply",
  { endian: "le", size: 8, spec: `${SPEC}, fuse_write_out` },
  {
    size: at(0, u32, "bytes written"),
    padding: at(4, reserved(4), "0"),
  },
);

export const STATFS_OUT = layout(
  "FUSE STATFS reply",
  { endian: "le", size: 80, spec: `${SPEC}, fuse_kstatfs` },
  {
    blocks: at(0, count64, "of frsize bytes"),
    blocksFree: at(8, count64, "free ones"),
    blocksAvailable: at(16, count64, "free ones for users"),
    files: at(24, count64, "inodes"),
    filesFree: at(32, count64, "free inodes"),
    blockSize: at(40, u32, "bytes; the loop device takes it as granularity of discards"),
    nameLength: at(44, u32, "longest name"),
    fragmentSize: at(48, u32, "bytes"),
    padding: at(52, reserved(28), "0"),
  },
);

export const FALLOCATE_IN = layout(
  "FUSE FALLOCATE request",
  { endian: "le", size: 32, spec: `${SPEC}, fuse_fallocate_in` },
  {
    handle: at(0, u64, "of OPEN"),
    offset: at(8, count64, "bytes"),
    size: at(16, count64, "bytes"),
    mode: at(24, u32, "FALLOC_FL_* of fallocate(2)"),
    padding: at(28, reserved(4), "0"),
  },
);

export const LSEEK_IN = layout(
  "FUSE LSEEK request",
  { endian: "le", size: 24, spec: `${SPEC}, fuse_lseek_in` },
  {
    handle: at(0, u64, "of OPEN"),
    offset: at(8, count64, "bytes"),
    whence: at(16, code(u32, { data: 3, hole: 4 }), "SEEK_DATA or SEEK_HOLE"),
    padding: at(20, reserved(4), "0"),
  },
);

export const LSEEK_OUT = layout(
  "FUSE LSEEK reply",
  { endian: "le", size: 8, spec: `${SPEC}, fuse_lseek_out` },
  { offset: at(0, count64, "bytes") },
);

export const INTERRUPT_IN = layout(
  "FUSE INTERRUPT request",
  { endian: "le", size: 8, spec: `${SPEC}, fuse_interrupt_in` },
  { unique: at(0, u64, "of the request that its caller has given up") },
);
