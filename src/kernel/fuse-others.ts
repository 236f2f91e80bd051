/** The FUSE requests beside READ and WRITE: one function each, from the message to the body of its reply. */
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import { FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE } from "../os/libc.js";
import { ERRNO, toErrno } from "./errno.js";
import { MAX_DATA } from "./fuse-buffers.js";
import {
  ATTR,
  ATTR_OUT,
  ENTRY_OUT,
  FALLOCATE_IN,
  FOPEN_DIRECT_IO,
  FOPEN_NOFLUSH,
  FOPEN_PARALLEL_DIRECT_WRITES,
  FUSE_FILE_NODE,
  FUSE_INIT_FLAG,
  FUSE_MAJOR,
  FUSE_MINOR,
  FUSE_OLDEST_MINOR,
  FUSE_OP,
  FUSE_ROOT_NODE,
  IN_HEADER,
  INIT_IN,
  INIT_OUT,
  INTERRUPT_IN,
  LSEEK_IN,
  LSEEK_OUT,
  OPEN_IN,
  OPEN_OUT,
  STATFS_OUT,
} from "./fuse-layout.js";
import { punch } from "./zero-range.js";

/** The body of a reply, 0 or an errno without a body, or null: the request has no reply. */
export type OtherAnswer = Uint8Array | number | null;

export interface OtherContext {
  readonly device: BlockDevice;
  /** Bytes of the file. */
  readonly size: number;
  readonly name: string;
  /** Whether the caller of this request has given up. */
  gaveUp(): boolean;
  /** The caller of that request has given up. */
  interrupt(low: number, high: number): void;
}

type Handler = (body: Uint8Array, context: OtherContext, node: number) => OtherAnswer | Promise<OtherAnswer>;

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const O_ACCMODE = 3;
const PAGE = 4096;
/** Asynchronous requests that the kernel sends at a time: more than the loop device's queue has. */
const MAX_BACKGROUND = 256;

const HANDLERS: Readonly<Record<number, Handler>> = {
  [FUSE_OP.INIT]: init,
  [FUSE_OP.LOOKUP]: lookup,
  [FUSE_OP.GETATTR]: (_body, context, node) => attributesReply(context, node),
  [FUSE_OP.SETATTR]: () => ERRNO.EPERM, // neither the size nor anything else is changed from this side
  [FUSE_OP.OPEN]: open,
  [FUSE_OP.RELEASE]: () => 0,
  [FUSE_OP.ACCESS]: () => 0,
  [FUSE_OP.FLUSH]: () => 0, // of a descriptor that is closed: nothing is kept back here
  [FUSE_OP.FSYNC]: async (_body, { device }) => {
    if (device.writable) await device.flush();
    return 0;
  },
  [FUSE_OP.STATFS]: (_body, context) => statfs(context),
  [FUSE_OP.FALLOCATE]: fallocate,
  [FUSE_OP.LSEEK]: seek,
  [FUSE_OP.INTERRUPT]: interrupt,
  [FUSE_OP.FORGET]: () => null,
  [FUSE_OP.BATCH_FORGET]: () => null,
  [FUSE_OP.DESTROY]: () => 0,
};

/** `message` is a whole request, valid during the call only. A request that is not known is ENOSYS, a body that is none EINVAL. */
export function answerOther(
  opcode: number,
  message: Uint8Array,
  context: OtherContext,
): OtherAnswer | Promise<OtherAnswer> {
  const handler = HANDLERS[opcode];
  if (!handler) return ERRNO.ENOSYS;
  try {
    const node = IN_HEADER.fields.node.type.decode(
      new DataView(message.buffer, message.byteOffset),
      IN_HEADER.fields.node.offset,
      true,
    );
    const known = node === BigInt(FUSE_ROOT_NODE) || node === BigInt(FUSE_FILE_NODE);
    return handler(message.subarray(IN_HEADER.size), context, known ? Number(node) : 0);
  } catch (error) {
    return error instanceof DiskError && error.code === "CORRUPT" ? ERRNO.EINVAL : toErrno(error);
  }
}

/** A newer major is answered with ours, and the kernel asks again with that. */
function init(body: Uint8Array): OtherAnswer {
  const { major, minor, maxReadahead, flags } = INIT_IN.decode(body);
  if (major < FUSE_MAJOR || (major === FUSE_MAJOR && minor < FUSE_OLDEST_MINOR)) return ERRNO.EPROTO;
  const { ASYNC_READ, BIG_WRITES, ASYNC_DIO, MAX_PAGES } = FUSE_INIT_FLAG;
  return INIT_OUT.encode({
    major: FUSE_MAJOR,
    minor: Math.min(major > FUSE_MAJOR ? FUSE_MINOR : minor, FUSE_MINOR),
    maxReadahead,
    flags: flags & (ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES),
    maxBackground: MAX_BACKGROUND,
    congestionThreshold: MAX_BACKGROUND,
    maxWrite: MAX_DATA,
    timeGranularity: 1,
    maxPages: MAX_DATA / PAGE,
    mapAlignment: 0,
    flags2: 0,
    maxStackDepth: 0,
    requestTimeout: 0,
  });
}

function lookup(body: Uint8Array, context: OtherContext, node: number): OtherAnswer {
  const end = body.indexOf(0);
  const name = Buffer.from(body.subarray(0, Math.max(end, 0))).toString("utf8");
  if (node !== FUSE_ROOT_NODE || name !== context.name) return ERRNO.ENOENT;
  const entry = ENTRY_OUT.encode({
    node: BigInt(FUSE_FILE_NODE),
    generation: 0n,
    entryValid: 0n,
    attrValid: 0n,
    entryValidFraction: 0,
    attrValidFraction: 0,
  });
  return Buffer.concat([entry, attributes(context, FUSE_FILE_NODE)]);
}

function attributesReply(context: OtherContext, node: number): OtherAnswer {
  if (node === 0) return ERRNO.ENOENT;
  return Buffer.concat([ATTR_OUT.encode({ attrValid: 0n, attrValidFraction: 0 }), attributes(context, node)]);
}

function attributes({ size, device }: OtherContext, node: number): Uint8Array {
  const root = node === FUSE_ROOT_NODE;
  return ATTR.encode({
    ino: BigInt(node),
    size: root ? 0 : size,
    blocks: root ? 0 : Math.floor(size / 512),
    mode: root ? S_IFDIR | 0o700 : S_IFREG | (device.writable ? 0o600 : 0o400),
    links: root ? 2 : 1,
    uid: 0,
    gid: 0,
    rdev: 0,
    blockSize: PAGE,
    flags: 0,
  });
}

function open(body: Uint8Array, { device }: OtherContext, node: number): OtherAnswer {
  const { flags } = OPEN_IN.decode(body);
  if (node !== FUSE_FILE_NODE) return ERRNO.ENOENT;
  if ((flags & O_ACCMODE) !== 0 && !device.writable) return ERRNO.EROFS;
  const openFlags = FOPEN_DIRECT_IO | FOPEN_NOFLUSH | FOPEN_PARALLEL_DIRECT_WRITES;
  return OPEN_OUT.encode({ handle: 0n, openFlags, backing: 0 });
}

function statfs({ size, device }: OtherContext): OtherAnswer {
  const unit = Math.max(PAGE, device.blockSize);
  return STATFS_OUT.encode({
    blocks: Math.floor(size / unit),
    blocksFree: 0,
    blocksAvailable: 0,
    files: 1,
    filesFree: 0,
    blockSize: unit,
    nameLength: 255,
    fragmentSize: unit,
  });
}

function fallocate(body: Uint8Array, context: OtherContext, node: number): OtherAnswer | Promise<OtherAnswer> {
  const { offset, size, mode } = FALLOCATE_IN.decode(body);
  const { device } = context;
  if (node !== FUSE_FILE_NODE || size === 0 || offset > context.size) return ERRNO.EINVAL;
  if (!device.writable) return ERRNO.EROFS;
  const length = Math.min(size, context.size - offset);
  if (mode === (FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE)) return punched(context, offset, length);
  if ((mode & ~FALLOC_KEEP_SIZE) === FALLOC_ZERO_RANGE) return device.zero(offset, length).then(() => 0);
  return ERRNO.EOPNOTSUPP;
}

async function punched(context: OtherContext, offset: number, length: number): Promise<OtherAnswer> {
  return (await punch(context.device, offset, length, context.gaveUp)) ? 0 : ERRNO.EINTR;
}

/** Next data or hole at or behind an offset; the file's end is a hole. */
async function seekFrom(context: OtherContext, offset: number, hole: boolean): Promise<OtherAnswer> {
  const from = offset - (offset % context.device.blockSize);
  for await (const extent of context.device.extents(from, context.size - from)) {
    if (extent.zero === hole) return LSEEK_OUT.encode({ offset: Math.max(extent.offset, offset) });
    if (context.gaveUp()) return ERRNO.EINTR;
  }
  return hole ? LSEEK_OUT.encode({ offset: context.size }) : ERRNO.ENXIO;
}

function seek(body: Uint8Array, context: OtherContext, node: number): OtherAnswer | Promise<OtherAnswer> {
  const { offset, whence } = LSEEK_IN.decode(body);
  if (node !== FUSE_FILE_NODE || whence === "unknown") return ERRNO.EINVAL;
  if (offset >= context.size) return ERRNO.ENXIO;
  return seekFrom(context, offset, whence === "hole");
}

/** Nobody waits for an answer to it. */
function interrupt(body: Uint8Array, context: OtherContext): OtherAnswer {
  const { unique } = INTERRUPT_IN.decode(body);
  context.interrupt(Number(unique & 0xffff_ffffn), Number(unique >> 32n));
  return null;
}
