/**
 * The client's half of the newstyle handshake: TLS when it is wanted, then extended headers or structured replies and base:allocation
 * when the server has them, GO with block sizes, EXPORT_NAME for servers that know no GO. Refuses oldstyle servers.
 */
import { DiskError, type ErrorCode } from "../errors.js";
import {
  BASE_ALLOCATION,
  CLIENT_FLAG,
  CLISERV_MAGIC,
  HANDSHAKE_FLAG,
  INFO,
  MAX_PAYLOAD,
  nameOf,
  OPT,
  REP,
  TRANSMISSION_FLAG,
} from "./codes.js";
import {
  CLIENT_FLAGS,
  EXPORT_NAME_REPLY,
  EXPORT_NAME_ZEROES,
  GREETING,
  INFO_BLOCK_SIZE,
  INFO_EXPORT,
  OPTION,
  OPTION_REPLY,
} from "./layout.js";
import { be16, be32 } from "./option-data.js";

/** The bytes of a connection before its transmission phase. */
export interface Channel {
  send(bytes: Uint8Array): void;
  /** Exactly `length` bytes; rejects when the connection ends before. */
  receive(length: number): Promise<Buffer>;
  /** Encrypts from here on; present when the connection must be encrypted. */
  readonly encrypt?: () => Promise<void>;
}

/** What the server offers, and what was agreed on. */
export interface Agreement {
  /** Bytes, a multiple of `blockSize`. */
  readonly size: number;
  /** TRANSMISSION_FLAG. */
  readonly flags: number;
  readonly blockSize: number;
  /** Most bytes of one read or write. */
  readonly maximumPayload: number;
  readonly structuredReplies: boolean;
  /** Requests and replies have long headers; brings structured replies with it. */
  readonly extendedHeaders: boolean;
  /** Id of base:allocation. */
  readonly allocationContext: number | undefined;
}

/** Option replies are short; a longer one is no reply but an attack on our memory. */
const MAX_REPLY = 64 << 10;
/** Replies to one option before its ACK. */
const MAX_REPLIES = 64;
const MAX_BLOCK_SIZE = 64 << 10;
/** What a careful client keeps to when the server does not say (doc/proto.md, Block size constraints). */
const CAREFUL_BLOCK_SIZE = 512;

/** `label` names the server in errors. */
export async function negotiate(channel: Channel, exportName: string, label: string): Promise<Agreement> {
  try {
    return await new Negotiation(channel, exportName, label).run();
  } catch (error) {
    if (!(error instanceof DiskError) || error.code !== "CORRUPT") throw error;
    throw new DiskError("PROTOCOL", `Cannot open ${label}: ${error.message}`, { cause: error });
  }
}

interface OptionReply {
  readonly type: number;
  readonly data: Buffer;
}

class Negotiation {
  readonly #channel: Channel;
  readonly #name: Buffer;
  readonly #label: string;
  #structuredReplies = false;
  #extendedHeaders = false;
  #allocationContext: number | undefined;

  constructor(channel: Channel, exportName: string, label: string) {
    this.#channel = channel;
    this.#name = Buffer.from(exportName);
    this.#label = label;
  }

  async run(): Promise<Agreement> {
    const greeting = await this.#channel.receive(GREETING.size);
    if (greeting.readBigUInt64BE(GREETING.fields.optionMagic.offset) === CLISERV_MAGIC)
      throw new DiskError(
        "UNSUPPORTED",
        `Cannot open ${this.#label}: the server speaks the oldstyle protocol, allowed newstyle`,
      );
    const { handshakeFlags } = GREETING.decode(greeting);
    const noZeroes = (handshakeFlags & HANDSHAKE_FLAG.NO_ZEROES) !== 0;
    const fixed = (handshakeFlags & HANDSHAKE_FLAG.FIXED_NEWSTYLE) !== 0;
    const flags = (fixed ? CLIENT_FLAG.FIXED_NEWSTYLE : 0) | (noZeroes ? CLIENT_FLAG.NO_ZEROES : 0);
    this.#channel.send(CLIENT_FLAGS.encode({ flags }));
    if (this.#channel.encrypt) await this.#startTls(fixed, this.#channel.encrypt);
    if (!fixed) return this.#exportName(noZeroes);
    await this.#wishes();
    return (await this.#go()) ?? this.#exportName(noZeroes);
  }

  async #startTls(fixed: boolean, encrypt: () => Promise<void>): Promise<void> {
    if (fixed) this.#option(OPT.STARTTLS);
    const type = fixed ? (await this.#outcome(OPT.STARTTLS)).type : REP.ERR_UNSUP;
    if (type !== REP.ACK)
      throw new DiskError("UNSUPPORTED", `Cannot open ${this.#label}: the server has no TLS (${nameOf(REP, type)})`, {
        details: { reply: nameOf(REP, type) },
      });
    await encrypt();
  }

  /** What is nice to have; a server without it says so and is used without. */
  async #wishes(): Promise<void> {
    this.#extendedHeaders = await this.#grants(OPT.EXTENDED_HEADERS);
    this.#structuredReplies = this.#extendedHeaders || (await this.#grants(OPT.STRUCTURED_REPLY));
    if (!this.#structuredReplies) return;
    const query = Buffer.from(BASE_ALLOCATION);
    this.#option(OPT.SET_META_CONTEXT, be32(this.#name.length), this.#name, be32(1), be32(query.length), query);
    let context: number | undefined;
    const { type } = await this.#outcome(OPT.SET_META_CONTEXT, (reply) => {
      if (reply.type !== REP.META_CONTEXT || reply.data.length < 4)
        this.#broken(`answers SET_META_CONTEXT with ${describe(reply)}`);
      if (reply.data.subarray(4).toString() === BASE_ALLOCATION) context = reply.data.readUInt32BE();
    });
    if (type === REP.ACK) this.#allocationContext = context;
  }

  async #grants(option: number): Promise<boolean> {
    this.#option(option);
    return (await this.#outcome(option)).type === REP.ACK;
  }

  /** Undefined when the server does not know GO. */
  async #go(): Promise<Agreement | undefined> {
    this.#option(OPT.GO, be32(this.#name.length), this.#name, be16(1), be16(INFO.BLOCK_SIZE));
    let offer: { size: number; flags: number } | undefined;
    let sizes: { minimum: number; maximumPayload: number } | undefined;
    const { type, data } = await this.#outcome(OPT.GO, (reply) => {
      if (reply.type !== REP.INFO || reply.data.length < 2) this.#broken(`answers GO with ${describe(reply)}`);
      const kind = reply.data.readUInt16BE();
      if (kind === INFO.EXPORT) offer = INFO_EXPORT.decode(reply.data);
      if (kind === INFO.BLOCK_SIZE) sizes = this.#checkSizes(INFO_BLOCK_SIZE.decode(reply.data));
    });
    if (type === REP.ERR_UNSUP) return undefined;
    if (type !== REP.ACK) this.#refused(type, data);
    if (!offer) return this.#broken("answers GO without NBD_INFO_EXPORT");
    return this.#agreement(offer, sizes);
  }

  async #exportName(noZeroes: boolean): Promise<Agreement> {
    this.#option(OPT.EXPORT_NAME, this.#name);
    const reply = await this.#channel.receive(EXPORT_NAME_REPLY.size).catch((error) => {
      // EXPORT_NAME has no error reply: hanging up is how a server says that it does not know the name.
      throw new DiskError("NOT_FOUND", `Cannot open ${this.#label}: the server hung up when asked for the export`, {
        cause: error,
      });
    });
    if (!noZeroes) await this.#channel.receive(EXPORT_NAME_ZEROES);
    return this.#agreement(EXPORT_NAME_REPLY.decode(reply), undefined);
  }

  #agreement(
    { size, flags }: { size: number; flags: number },
    sizes: { minimum: number; maximumPayload: number } | undefined,
  ): Agreement {
    if ((flags & TRANSMISSION_FLAG.HAS_FLAGS) === 0) this.#broken("sends transmission flags without HAS_FLAGS");
    const blockSize = sizes?.minimum ?? (size % CAREFUL_BLOCK_SIZE === 0 ? CAREFUL_BLOCK_SIZE : 1);
    return {
      size: size - (size % blockSize),
      flags,
      blockSize,
      maximumPayload: sizes?.maximumPayload ?? MAX_PAYLOAD,
      structuredReplies: this.#structuredReplies,
      extendedHeaders: this.#extendedHeaders,
      allocationContext: this.#allocationContext,
    };
  }

  #checkSizes({ minimum, maximumPayload }: { minimum: number; maximumPayload: number }): {
    minimum: number;
    maximumPayload: number;
  } {
    if (minimum < 1 || minimum > MAX_BLOCK_SIZE || !Number.isInteger(Math.log2(minimum)))
      this.#broken(`has blocks of ${minimum} bytes, allowed powers of two up to ${MAX_BLOCK_SIZE}`);
    const maximum = Math.min(maximumPayload, MAX_PAYLOAD);
    if (maximum < minimum) this.#broken(`takes at most ${maximum} bytes in blocks of ${minimum}`);
    return { minimum, maximumPayload: maximum - (maximum % minimum) };
  }

  #option(option: number, ...data: Uint8Array[]): void {
    const payload = Buffer.concat(data);
    this.#channel.send(Buffer.concat([OPTION.encode({ option, length: payload.length }), payload]));
  }

  /** The ACK or error that ends the option's replies; `use` is given each reply before it. */
  async #outcome(option: number, use?: (reply: OptionReply) => void): Promise<OptionReply> {
    for (let count = 0; count < MAX_REPLIES; count++) {
      const head = OPTION_REPLY.decode(await this.#channel.receive(OPTION_REPLY.size));
      if (head.option !== option)
        this.#broken(`answers option ${nameOf(OPT, head.option)}, asked was ${nameOf(OPT, option)}`);
      if (head.length > MAX_REPLY)
        this.#broken(`sends an option reply of ${head.length} bytes, allowed 0..${MAX_REPLY}`);
      const reply = { type: head.type, data: await this.#channel.receive(head.length) };
      if (reply.type === REP.ACK || reply.type > 2 ** 31) return reply;
      if (!use) this.#broken(`answers ${nameOf(OPT, option)} with ${describe(reply)}`);
      use(reply);
    }
    return this.#broken(`sends more than ${MAX_REPLIES} replies to ${nameOf(OPT, option)}`);
  }

  #refused(type: number, message: Buffer): never {
    this.#option(OPT.ABORT);
    const said = message.length > 0 ? `: ${JSON.stringify(message.toString())}` : "";
    const hint = type === REP.ERR_TLS_REQD ? ", allowed with nbds: and nbds+unix:" : "";
    throw new DiskError(
      REFUSALS[type] ?? "PROTOCOL",
      `Cannot open ${this.#label}: the server answered ${nameOf(REP, type)}${said}${hint}`,
      {
        details: { reply: nameOf(REP, type) },
      },
    );
  }

  #broken(found: string): never {
    throw new DiskError("PROTOCOL", `Cannot open ${this.#label}: the server ${found}`);
  }
}

const REFUSALS: Record<number, ErrorCode> = {
  [REP.ERR_UNKNOWN]: "NOT_FOUND",
  [REP.ERR_POLICY]: "DENIED",
  [REP.ERR_TLS_REQD]: "UNSUPPORTED",
  [REP.ERR_PLATFORM]: "UNSUPPORTED",
  [REP.ERR_SHUTDOWN]: "IO",
};

function describe({ type, data }: OptionReply): string {
  return `${nameOf(REP, type)} of ${data.length} bytes`;
}
