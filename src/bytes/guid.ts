/** GUIDs in UEFI's mixed byte order (first three groups little-endian) and UUIDs in plain order. */

const GUID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export const ZERO_GUID = "00000000-0000-0000-0000-000000000000";

/** Whether `text` has the 8-4-4-4-12 form. */
export function isGuid(text: string): boolean {
  return GUID_PATTERN.test(text);
}

/** 16 stored bytes to upper-case text, as sfdisk and sgdisk print it. */
export function formatGuid(bytes: Uint8Array): string {
  return formatUuid(swapGroups(bytes)).toUpperCase();
}

/** Text to 16 stored bytes. Throws `RangeError` on another form. */
export function parseGuid(text: string): Uint8Array {
  return swapGroups(parseUuid(text));
}

/** A copy in the other of the two orders: the first three groups are of 4, 2 and 2 bytes (UEFI 2.10, appendix A). */
function swapGroups(bytes: Uint8Array): Uint8Array {
  const swapped = new Uint8Array(bytes); // slice() of a Buffer would be no copy
  swapped.subarray(0, 4).reverse();
  swapped.subarray(4, 6).reverse();
  swapped.subarray(6, 8).reverse();
  return swapped;
}

/** 16 bytes in plain order to lower-case text (file system UUIDs). */
export function formatUuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}

export function parseUuid(text: string): Uint8Array {
  if (!isGuid(text))
    throw new RangeError(`${JSON.stringify(text)} is no GUID, the form is 8-4-4-4-12 hexadecimal digits`);
  return new Uint8Array(Buffer.from(text.replaceAll("-", ""), "hex"));
}

/** A version 4 UUID (RFC 9562) from 16 random bytes, as lower-case text. */
export function randomUuid(random: (size: number) => Uint8Array): string {
  const bytes = random(16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return formatUuid(bytes);
}

/** The same as a GUID: upper case, for GPT. */
export function randomGuid(random: (size: number) => Uint8Array): string {
  return randomUuid(random).toUpperCase();
}
