/**
 * An extension of devices whose reads arrive in memory of their own: whoever only hands the bytes on (to a socket, to the
 * kernel) is lent them there, for the length of a call, instead of having them copied. Devices that cannot have no entry here.
 */
import type { BlockDevice } from "./device.js";

/** Gets the bytes that were read. They are valid during the call only, which must not throw. */
export type UseBytes = (bytes: Uint8Array) => void;

/** Resolves after `use` was called once with the whole range; null, and nothing is done, where the range must be read instead. */
export type LendRead = (offset: number, length: number, use: UseBytes) => Promise<void> | null;

const LENDERS = new WeakMap<BlockDevice, LendRead>();

/** Declares how a device lends what it reads. Returns the device. */
export function withLentReads<D extends BlockDevice>(device: D, lend: LendRead): D {
  LENDERS.set(device, lend);
  return device;
}

/** How the device lends what it reads; undefined when it does not. */
export function lenderOf(device: BlockDevice): LendRead | undefined {
  return LENDERS.get(device);
}
