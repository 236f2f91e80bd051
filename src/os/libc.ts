/**
 * The system calls that Node lacks, by koffi: Linux on 64-bit machines with the generic ABI (x64, arm64, riscv64, loong64).
 * Every call returns what the kernel returns: a result, or a negative errno. Nothing here throws after loading.
 * Where koffi cannot load `libc()` is null, and every caller has a way of its own with plain Node.
 */
import { createRequire } from "node:module";
import { arch, constants, platform } from "node:os";

type Koffi = typeof import("koffi");

/** Bytes that stay where they are during a call; views of a SharedArrayBuffer as well. */
type Bytes = Uint8Array;

export interface Libc {
  /** Where the bytes lie in memory, for as long as their buffer lives. */
  address(bytes: Bytes): number;
  /** Cached bytes only: a short count or `-EAGAIN` where the kernel would have to wait (preadv2 with RWF_NOWAIT). */
  readCached(fd: number, into: Bytes, offset: number): number;
  /** The same into `length` bytes at an `address`, for callers that read many times into the same memory. */
  readCachedAt(fd: number, address: number, length: number, offset: number): number;
  /** Next offset of data (or of a hole) at or after `offset`; `-ENXIO` behind the last one. */
  seekData(fd: number, offset: number): number;
  seekHole(fd: number, offset: number): number;
  fallocate(fd: number, mode: number, offset: number, length: number): Promise<number>;
  copyFileRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): Promise<number>;
  /** The whole file `from` shared with `to` (ioctl FICLONE). */
  clone(from: number, to: number): Promise<number>;
  /** A range shared, in units of the file system's blocks (ioctl FICLONERANGE). */
  cloneRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): Promise<number>;
  syncFileRange(fd: number, offset: number, length: number, flags: number): Promise<number>;
  /** An open-file-description lock on `length` bytes (fcntl F_OFD_SETLK); `type` is F_RDLCK, F_WRLCK or F_UNLCK. */
  setLock(fd: number, type: number, offset: number, length: number): number;
  /** 1 when another description's lock would keep ours of that type from being set (F_OFD_GETLK), 0 when none. */
  testLock(fd: number, type: number, offset: number, length: number): number;
  /** Gives an O_TMPFILE file a name; `-EEXIST` when the name is taken. */
  linkOpenFile(fd: number, path: string): number;
  /** The process that connected a unix socket's other end (SO_PEERCRED); 0 when it is in a pid namespace that cannot be seen. */
  peerPid(socket: number): number;
  /** Bytes of a block device (ioctl BLKGETSIZE64). */
  deviceSize(fd: number): number;
  /** What offsets, lengths and memory must be multiples of with O_DIRECT (statx STATX_DIOALIGN); null where the system does not say. */
  directUnits(fd: number): { offset: number; memory: number } | null;
  readonly ring: RingCalls;
  /** Lets other threads that are ready have this core first; returns at once when there are none (sched_yield). */
  yieldCore(): void;
}

/** io_uring(7), as far as `io-ring.ts` needs it. */
export interface RingCalls {
  /** A new ring's descriptor; fills `params` (struct io_uring_params). */
  setup(entries: number, params: Uint32Array): number;
  /** The memory that a ring shares with the kernel, for as long as the process lives; null when it cannot be had. */
  map(fd: number, length: number, offset: number): ArrayBuffer | null;
  /** Hands over `submit` requests, and returns how many the kernel took. Does not wait. */
  enter(fd: number, submit: number): number;
  /** Ends when a request has, or after `timeoutMs`; waits on a thread of the pool. */
  wait(fd: number, timeoutMs: number): Promise<number>;
  /** The same on this thread, until `complete` of them have. */
  waitHere(fd: number, complete: number, timeoutMs: number): number;
}

export const FALLOC_KEEP_SIZE = 0x01;
export const FALLOC_PUNCH_HOLE = 0x02;
export const FALLOC_ZERO_RANGE = 0x10;
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
export const SYNC_WAIT_BEFORE = 1;
export const SYNC_WRITE = 2;
export const SYNC_WAIT_AFTER = 4;

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const RWF_NOWAIT = 8;
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const AT_FDCWD = -100;
const AT_SYMLINK_FOLLOW = 0x400;
const FICLONE = 0x4004_9409;
const FICLONERANGE = 0x4020_940d;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const BLKGETSIZE64 = 0x8008_1272;
const AT_EMPTY_PATH = 0x1000;
const STATX_DIOALIGN = 0x2000;
const SYS_IO_URING_SETUP = 425;
const SYS_IO_URING_ENTER = 426;
const IORING_ENTER_GETEVENTS = 1;
const IORING_ENTER_EXT_ARG = 8;
const PROT_READ_WRITE = 3;
const MAP_SHARED_POPULATE = 0x8001;

const ARCHITECTURES = ["x64", "arm64", "riscv64", "loong64"];

let loaded: Libc | null | undefined;

/** The calls, or null where they cannot be had. Loaded at the first use: it costs about two milliseconds. */
export function libc(): Libc | null {
  if (loaded === undefined) {
    try {
      loaded = platform() === "linux" && ARCHITECTURES.includes(arch()) ? bind(loadKoffi()) : null;
    } catch {
      loaded = null;
    }
  }
  return loaded;
}

/** The C library for calls that only one caller needs, declared by that caller; null where `libc()` is. */
export function nativeLibrary(): NativeLibrary | null {
  if (libc() === null) return null;
  const koffi = loadKoffi();
  const library = koffi.load(null);
  return {
    declare: (name, result, ...args) => library.func(name, result, args),
    address: (bytes) => koffi.address(bytes) as bigint,
    close: library.func("close", "int", ["int"]),
    ...kernelOf(koffi),
  };
}

/** A declared call; `async` runs it on a thread of the pool. */
export type NativeCall = ((...args: unknown[]) => number | bigint) & { async: (...args: unknown[]) => void };

export interface NativeLibrary extends Kernel {
  /** In koffi's type names. */
  declare(name: string, result: string, ...args: string[]): NativeCall;
  /** Where the bytes lie in memory, for as long as their buffer lives. */
  address(bytes: Uint8Array): bigint;
  /** For descriptors that a declared call has opened: Node, which did not, complains in its worker threads. */
  close(fd: number): void;
}

/** The negative of an errno by its name. */
export function negative(name: keyof typeof constants.errno): number {
  return -constants.errno[name];
}

/** A negative result as the error that Node's own calls would have given. */
export function errnoError(result: number, call: string): NodeJS.ErrnoException {
  const code = Object.entries(constants.errno).find(([, value]) => value === -result)?.[0] ?? `errno ${-result}`;
  return Object.assign(new Error(`${code}: ${call}`), { code, errno: result, syscall: call });
}

/**
 * koffi's entry file parses the ELF header of Node to find its binary, and asking for its package reads more than the
 * binary itself. So the binary is asked for where npm puts it, then beside koffi; any other place is koffi's own business.
 */
export function loadKoffi(): Koffi {
  const load = createRequire(import.meta.url);
  const binary = `@koromix/koffi-linux-${arch()}/linux_${arch()}/koffi.node`;
  for (const find of [() => binary, () => load.resolve(binary, { paths: [load.resolve("koffi")] })]) {
    try {
      return load(find()) as Koffi;
    } catch {} // not there
  }
  return load("koffi") as Koffi;
}

function bind(koffi: Koffi): Libc {
  const calls = declareCalls(koffi);
  const kernel = kernelOf(koffi);
  return {
    ...reading(koffi, calls, kernel),
    ...moving(calls, kernel),
    ...locking(calls, kernel),
    ...naming(calls, kernel),
    directUnits: askingUnits(koffi),
    ring: ringing(koffi, calls, kernel),
    yieldCore: koffi.load(null).func("sched_yield", "int", []) as () => void,
  };
}

type Calls = ReturnType<typeof declareCalls>;

function declareCalls(koffi: Koffi) {
  const lib = koffi.load(null);
  const declare = (name: string, result: string, ...args: string[]) => lib.func(name, result, args);
  return {
    preadv2: declare("preadv2", "intptr_t", "int", "void *", "int", "int64_t", "int"),
    lseek: declare("lseek", "int64_t", "int", "int64_t", "int"),
    fallocate: declare("fallocate", "int", "int", "int", "int64_t", "int64_t"),
    copyFileRange: declare("copy_file_range", "intptr_t", "int", "void *", "int", "void *", "size_t", "uint"),
    syncFileRange: declare("sync_file_range", "int", "int", "int64_t", "int64_t", "uint"),
    ioctlNumber: declare("ioctl", "int", "int", "ulong", "intptr_t"),
    ioctlBytes: declare("ioctl", "int", "int", "ulong", "void *"),
    fcntl: declare("fcntl", "int", "int", "int", "void *"),
    getsockopt: declare("getsockopt", "int", "int", "int", "int", "void *", "void *"),
    linkat: declare("linkat", "int", "int", "str", "int", "str", "int"),
    mmap: declare("mmap", "intptr_t", "intptr_t", "size_t", "int", "int", "int", "int64_t"),
    ringSetup: declare("syscall", "long", "long", "uint", "void *"),
    ringEnter: declare("syscall", "long", "long", "int", "uint", "uint", "uint", "uintptr_t", "size_t"),
  };
}

/** How a call's result becomes what `Libc` promises: at once, or from a thread of koffi's. */
interface Kernel {
  answer(result: number | bigint): number;
  later(call: { async: (...args: unknown[]) => void }, ...args: unknown[]): Promise<number>;
}

function kernelOf(koffi: Koffi): Kernel {
  const answer = (result: number | bigint): number => (result < 0 ? -koffi.errno() : Number(result));
  return {
    answer,
    later: (call, ...args) =>
      new Promise((resolve, reject) => {
        call.async(...args, (error: unknown, result: number) => (error ? reject(error) : resolve(answer(result))));
      }),
  };
}

function reading(koffi: Koffi, { preadv2, lseek }: Calls, { answer }: Kernel) {
  const vector = new Uint32Array(4); // struct iovec; one call at a time on this thread: filled just before the call that reads it
  const address = (bytes: Bytes) => Number(koffi.address(bytes));
  const readCachedAt = (fd: number, at: number, length: number, offset: number) => {
    vector[0] = at;
    vector[1] = Math.floor(at / 2 ** 32);
    vector[2] = length;
    return answer(preadv2(fd, vector, 1, offset, RWF_NOWAIT));
  };
  return {
    address,
    readCached: (fd, into, offset) => readCachedAt(fd, address(into), into.length, offset),
    readCachedAt,
    seekData: (fd, offset) => answer(lseek(fd, offset, SEEK_DATA)),
    seekHole: (fd, offset) => answer(lseek(fd, offset, SEEK_HOLE)),
  } satisfies Partial<Libc>;
}

/** Space and contents, in the kernel; these may wait for the disk. */
function moving({ fallocate, copyFileRange, ioctlNumber, ioctlBytes, syncFileRange }: Calls, { later }: Kernel) {
  return {
    fallocate: (fd, mode, offset, length) => later(fallocate, fd, mode, offset, length),
    copyFileRange: (from, fromOffset, to, toOffset, length) =>
      later(
        copyFileRange,
        from,
        BigInt64Array.of(BigInt(fromOffset)),
        to,
        BigInt64Array.of(BigInt(toOffset)),
        length,
        0,
      ),
    clone: (from, to) => later(ioctlNumber, to, FICLONE, from),
    cloneRange: (from, fromOffset, to, toOffset, length) =>
      later(ioctlBytes, to, FICLONERANGE, BigInt64Array.of(...[from, fromOffset, length, toOffset].map(BigInt))),
    syncFileRange: (fd, offset, length, flags) => later(syncFileRange, fd, offset, length, flags),
  } satisfies Partial<Libc>;
}

function locking({ fcntl }: Calls, { answer }: Kernel) {
  const lock = new BigInt64Array(4); // struct flock; one call at a time on this thread
  const lockType = new Int16Array(lock.buffer);
  const fill = (type: number, offset: number, length: number) => {
    lock.fill(0n);
    lockType[0] = type;
    lock[1] = BigInt(offset);
    lock[2] = BigInt(length);
  };
  return {
    setLock(fd, type, offset, length) {
      fill(type, offset, length);
      return answer(fcntl(fd, F_OFD_SETLK, lock));
    },
    testLock(fd, type, offset, length) {
      fill(type, offset, length);
      const result = answer(fcntl(fd, F_OFD_GETLK, lock));
      return result < 0 ? result : Number(lockType[0] !== F_UNLCK);
    },
  } satisfies Partial<Libc>;
}

function naming({ linkat, ioctlBytes, getsockopt }: Calls, { answer }: Kernel) {
  return {
    linkOpenFile: (fd, path) => answer(linkat(AT_FDCWD, `/proc/self/fd/${fd}`, AT_FDCWD, path, AT_SYMLINK_FOLLOW)),
    peerPid(socket) {
      const credentials = new Int32Array(3); // struct ucred: pid, uid, gid
      const length = Int32Array.of(credentials.byteLength);
      const result = answer(getsockopt(socket, SOL_SOCKET, SO_PEERCRED, credentials, length));
      return result < 0 ? result : credentials[0]!;
    },
    deviceSize(fd) {
      const size = new BigUint64Array(1);
      const result = answer(ioctlBytes(fd, BLKGETSIZE64, size));
      return result < 0 ? result : Number(size[0]);
    },
  } satisfies Partial<Libc>;
}

/** statx is younger than the rest: a C library without it has all the other calls. */
function askingUnits(koffi: Koffi): Libc["directUnits"] {
  const answer = new Uint32Array(64); // struct statx
  let statx: ((...args: unknown[]) => number) | null | undefined;
  const declare = () => {
    try {
      return koffi.load(null).func("statx", "int", ["int", "str", "int", "uint", "void *"]);
    } catch {
      return null;
    }
  };
  return (fd) => {
    statx ??= declare();
    if (!statx || statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, answer) < 0) return null;
    const [memory, offset] = [answer[38]!, answer[39]!];
    return answer[0]! & STATX_DIOALIGN && offset > 0 ? { offset, memory } : null;
  };
}

function ringing(koffi: Koffi, { mmap, ringSetup, ringEnter }: Calls, { answer, later }: Kernel): RingCalls {
  // struct io_uring_getevents_arg (signal set, its size, time), then the struct timespec that it points to. Too long for
  // memory that the collector moves, and never changed while a call is under way: one wait at a time, always as long.
  const waitArg = new BigInt64Array(16);
  const WAIT_ARG_SIZE = 24;
  const waitFor = (timeoutMs: number) => {
    const address = koffi.address(waitArg);
    waitArg[2] = address + BigInt(WAIT_ARG_SIZE);
    waitArg[3] = BigInt(Math.floor(timeoutMs / 1000));
    waitArg[4] = BigInt(Math.round((timeoutMs % 1000) * 1e6));
    return Number(address);
  };
  const flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
  return {
    setup: (entries, params) => answer(ringSetup(SYS_IO_URING_SETUP, entries, params)),
    map(fd, length, offset) {
      const address = answer(mmap(0, length, PROT_READ_WRITE, MAP_SHARED_POPULATE, fd, offset));
      return address < 0 ? null : koffi.view(BigInt(address), length);
    },
    enter: (fd, submit) => answer(ringEnter(SYS_IO_URING_ENTER, fd, submit, 0, 0, 0, 0)),
    wait: (fd, timeoutMs) => later(ringEnter, SYS_IO_URING_ENTER, fd, 0, 1, flags, waitFor(timeoutMs), WAIT_ARG_SIZE),
    waitHere: (fd, complete, timeoutMs) =>
      answer(ringEnter(SYS_IO_URING_ENTER, fd, 0, complete, flags, waitFor(timeoutMs), WAIT_ARG_SIZE)),
  };
}
