/** Data of the handshake's options: written by clients, read by servers, who refuse what does not fit. */
import { MAX_STRING, REP } from "./codes.js";

/** Thrown to answer an option with an error. */
export class Refusal extends Error {
  readonly type: number;
  constructor(type: number, text: string) {
    super(text);
    this.type = type;
  }
}

/** Reads an option's data in order; what does not fit is answered with ERR_INVALID. */
export class OptionReader {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  u16(): number {
    return this.#next(2).readUInt16BE();
  }

  u32(): number {
    return this.#next(4).readUInt32BE();
  }

  string(): string {
    const length = this.u32();
    if (length > MAX_STRING)
      throw new Refusal(REP.ERR_INVALID, `a string has ${length} bytes, allowed 0..${MAX_STRING}`);
    return this.#next(length).toString();
  }

  end(): void {
    if (this.#at < this.#data.length)
      throw new Refusal(REP.ERR_INVALID, `${this.#data.length - this.#at} bytes are left over`);
  }

  #next(length: number): Buffer {
    if (length > this.#data.length - this.#at)
      throw new Refusal(REP.ERR_INVALID, "the data are shorter than their lengths say");
    this.#at += length;
    return this.#data.subarray(this.#at - length, this.#at);
  }
}

export function requireEmpty(data: Buffer): void {
  if (data.length > 0) throw new Refusal(REP.ERR_INVALID, `the option has ${data.length} bytes, allowed 0`);
}

export function be16(value: number): Buffer {
  const buffer = Buffer.alloc(2);
  buffer.writeUInt16BE(value);
  return buffer;
}

export function be32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(value);
  return buffer;
}
