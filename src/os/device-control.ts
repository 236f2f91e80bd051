/** Device nodes and ioctl(2), for devices whose answers come from this very process: every call here waits on a thread of the pool, never on the caller's. */
import { promises } from "node:fs";
import { DiskError, fromErrno } from "../errors.js";
import { errnoError, nativeLibrary } from "./libc.js";

/** An open device or file, by its descriptor. */
export interface OpenDescriptor {
  readonly fd: number;
  /** The result, or a negative errno. `argument` is a number or the bytes of a structure, which the call may change. */
  ioctl(request: number, argument: number | Uint8Array): Promise<number>;
  close(): Promise<void>;
}

/** Opens a path with the flags of open(2), not inherited by programs. */
export async function openDescriptor(path: string, flags: number): Promise<OpenDescriptor> {
  const native = nativeLibrary();
  if (!native)
    throw new DiskError("UNSUPPORTED", `Cannot open "${path}": native calls are not available on this system`);
  const handle = await promises.open(path, flags).catch((error: unknown) => {
    throw fromErrno(`open "${path}"`, error);
  });
  const withNumber = native.declare("ioctl", "int", "int", "ulong", "intptr_t");
  const withBytes = native.declare("ioctl", "int", "int", "ulong", "void *");
  return {
    fd: handle.fd,
    ioctl: (request, argument) =>
      native.later(typeof argument === "number" ? withNumber : withBytes, handle.fd, request, argument),
    close: () => handle.close(),
  };
}

/** Where bytes lie, for structures that point at others; valid while their buffer lives. */
export function addressOf(bytes: Uint8Array): bigint {
  return nativeLibrary()!.address(bytes);
}

/** Throws when `result`, of an ioctl named `call`, is an error. */
export function checkIoctl(what: string, call: string, result: number): number {
  if (result < 0) throw fromErrno(what, errnoError(result, `ioctl ${call}`));
  return result;
}
