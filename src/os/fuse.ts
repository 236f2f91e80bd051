/**
 * A FUSE file system of this process: /dev/fuse opened, and mounted through the kernel's mount descriptors (Linux 5.2), so
 * that the mount is in no folder and in nobody's list, and is gone with the last file that is open in it.
 */
import { closeSync, constants, openSync } from "node:fs";
import { DiskError, fromErrno } from "../errors.js";
import { errnoError, type NativeCall, type NativeLibrary, nativeLibrary } from "./libc.js";
import { ownUid } from "./this-process.js";

const SYS_FSOPEN = 430; // the same number on all machines that libc() takes
const SYS_FSCONFIG = 431;
const SYS_FSMOUNT = 432;
const FSOPEN_CLOEXEC = 1;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const FSMOUNT_CLOEXEC = 1;
const MOUNT_ATTR_NOSUID = 2;
const MOUNT_ATTR_NODEV = 4;
const MOUNT_ATTR_NOEXEC = 8;

/** The program's end of a FUSE connection. The calls do not wait. */
export interface FuseConnection {
  readonly fd: number;
  /** One request: its length, or a negative errno: -EAGAIN when none waits, -ENODEV when the file system is gone. */
  read(into: Uint8Array): number;
  /** One reply, whole: the first `length` bytes of `reply` and then `data`. Its length or a negative errno. */
  write(reply: Uint8Array, length: number, data?: Uint8Array): number;
  /** Idempotent. What the kernel still waits for fails. */
  close(): void;
}

/** Opens /dev/fuse. Throws when there is none, or it may not be used. */
export function openFuse(): FuseConnection {
  const native = requireNative();
  let fd: number;
  try {
    fd = openSync("/dev/fuse", constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    throw fromErrno('open "/dev/fuse"', error);
  }
  const read = native.declare("read", "intptr_t", "int", "void *", "size_t");
  const write = native.declare("write", "intptr_t", "int", "void *", "size_t");
  const writeBoth = gatheredWrite(native, fd);
  let open = true;
  return {
    fd,
    read: (into) => (open ? native.answer(read(fd, into, into.length)) : CLOSED),
    write(reply, length, data) {
      if (!open) return CLOSED;
      return data ? writeBoth(reply, length, data) : native.answer(write(fd, reply, length));
    },
    close() {
      if (open) closeSync(fd);
      open = false;
    },
  };
}

/** writev(2) of two pieces. Where a buffer lies is asked once as long as the same ones come again. */
function gatheredWrite(native: NativeLibrary, fd: number) {
  const writev = native.declare("writev", "intptr_t", "int", "void *", "int");
  const pieces = new Uint32Array(64); // two of struct iovec; longer, for memory that is not moved
  const addressOf = [rememberedAddress(native), rememberedAddress(native)] as const;
  const fill = (piece: 0 | 1, bytes: Uint8Array, length: number) => {
    const address = addressOf[piece](bytes);
    pieces[piece * 4] = address % 2 ** 32;
    pieces[piece * 4 + 1] = Math.floor(address / 2 ** 32);
    pieces[piece * 4 + 2] = length;
  };
  return (head: Uint8Array, length: number, data: Uint8Array): number => {
    fill(0, head, length);
    fill(1, data, data.length);
    return native.answer(writev(fd, pieces, 2));
  };
}

function rememberedAddress(native: NativeLibrary): (bytes: Uint8Array) => number {
  let known: ArrayBufferLike | undefined;
  let begin = 0;
  return (bytes) => {
    const { buffer, byteOffset } = bytes;
    if (buffer !== known) {
      begin = Number(native.address(bytes)) - byteOffset;
      known = buffer;
    }
    return begin + byteOffset;
  };
}

const CLOSED = -19; // ENODEV, as from a connection whose file system has gone

/**
 * Mounts the connection's file system and runs `work` with the path of its root folder. Afterwards only files that are still
 * open keep the mount. Everything that touches a path there waits for answers through the connection.
 */
export async function withFuseMounted<T>(connection: FuseConnection, work: (root: string) => Promise<T>): Promise<T> {
  const native = requireNative();
  const root = mount(native, connection);
  try {
    return await work(`/proc/self/fd/${root}`);
  } finally {
    native.close(root);
  }
}

/** The descriptor of the root folder. */
function mount(native: NativeLibrary, connection: FuseConnection): number {
  const calls = mountCalls(native);
  const step = (name: string, result: number | bigint) => {
    const answer = native.answer(result);
    if (answer < 0) throw fromErrno("mount a FUSE file system", errnoError(answer, name));
    return answer;
  };
  const context = step("fsopen", calls.fsopen(SYS_FSOPEN, "fuse", FSOPEN_CLOEXEC));
  try {
    const uid = String(ownUid() ?? 0);
    const options = { source: "xvdkit", fd: String(connection.fd), rootmode: "40000", user_id: uid, group_id: "0" };
    for (const [key, value] of Object.entries(options))
      step(`fsconfig ${key}`, calls.set(SYS_FSCONFIG, context, FSCONFIG_SET_STRING, key, value, 0));
    step("fsconfig", calls.set(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, null, null, 0));
    const attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    return step("fsmount", calls.fsmount(SYS_FSMOUNT, context, FSMOUNT_CLOEXEC, attributes));
  } finally {
    native.close(context);
  }
}

function mountCalls(native: NativeLibrary): Record<"fsopen" | "set" | "fsmount", NativeCall> {
  return {
    fsopen: native.declare("syscall", "long", "long", "str", "uint"),
    set: native.declare("syscall", "long", "long", "int", "uint", "str", "str", "int"),
    fsmount: native.declare("syscall", "long", "long", "int", "uint", "uint"),
  };
}

function requireNative(): NativeLibrary {
  const native = nativeLibrary();
  if (!native)
    throw new DiskError("UNSUPPORTED", "Cannot use /dev/fuse: native calls are not available on this system");
  return native;
}
