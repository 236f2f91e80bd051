/** GPT attribute bits by sfdisk's names: `RequiredPartition NoBlockIOProtocol LegacyBIOSBootable GUID:48,63`. */
import { DiskError } from "../errors.js";

const NAMED: readonly (readonly [string, bigint])[] = [
  ["RequiredPartition", 1n << 0n],
  ["NoBlockIOProtocol", 1n << 1n],
  ["LegacyBIOSBootable", 1n << 2n],
];
const FIRST_TYPE_BIT = 48;
const LAST_TYPE_BIT = 63;

/** The bits that this text can name: 0-2 and 48-63. The others are reserved, and kept as they are. */
export const NAMED_ATTRIBUTES = NAMED.reduce((mask, [, bit]) => mask | bit, 0xffffn << BigInt(FIRST_TYPE_BIT));

export function printAttributes(attributes: bigint): string {
  const words: string[] = NAMED.filter(([, bit]) => (attributes & bit) !== 0n).map(([name]) => name);
  const bits: number[] = [];
  for (let bit = FIRST_TYPE_BIT; bit <= LAST_TYPE_BIT; bit++) if ((attributes >> BigInt(bit)) & 1n) bits.push(bit);
  if (bits.length > 0) words.push(`GUID:${bits.join(",")}`);
  return words.join(" ");
}

/** Names, `GUID:48,63` and plain bit numbers, separated by blanks or commas. Throws `UNSUPPORTED` (wrong usage) for another word. */
export function parseAttributes(text: string): bigint {
  let attributes = 0n;
  for (const word of text.split(/[\s,]+/).filter(Boolean)) {
    const named = NAMED.find(([name]) => name.toLowerCase() === word.toLowerCase());
    const digits = /^(?:GUID:)?(\d{1,2})$/i.exec(word)?.[1];
    const bit = digits === undefined ? -1 : Number(digits);
    if (named) attributes |= named[1];
    else if (bit >= FIRST_TYPE_BIT && bit <= LAST_TYPE_BIT) attributes |= 1n << BigInt(bit);
    else if (bit >= 0 && bit < NAMED.length) attributes |= 1n << BigInt(bit);
    else throw unknown(word);
  }
  return attributes;
}

function unknown(word: string): DiskError {
  const allowed = `${NAMED.map(([name]) => name).join(" ")} and GUID:${FIRST_TYPE_BIT}..${LAST_TYPE_BIT}`;
  return new DiskError(
    "UNSUPPORTED",
    `Cannot use attribute ${JSON.stringify(word)}: it is not known, allowed are ${allowed}`,
    {
      details: { usage: true, attribute: word },
    },
  );
}
