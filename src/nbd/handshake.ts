/**
 * The server's half of the fixed newstyle handshake (doc/proto.md, Newstyle negotiation), without a socket: bytes go in, bytes come out.
 * After STARTTLS a new handshake begins on the encrypted stream, without a greeting: nothing that was agreed on before holds.
 */
import { CLIENT_FLAG, HANDSHAKE_FLAG, IHAVEOPT, INFO, MAX_STRING, OPT, REP } from "./codes.js";
import { blockSizes, type ExportSource, type FoundExport, findExport, transmissionFlags } from "./exports.js";
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
import { type MetaContext, matchContexts } from "./meta-context.js";
import { be16, be32, OptionReader, Refusal, requireEmpty } from "./option-data.js";

/** What both sides agreed on. */
export interface Session extends FoundExport {
  readonly structuredReplies: boolean;
  /** Brings structured replies with it. */
  readonly extendedHeaders: boolean;
  /** What block status tells about, as the client chose. */
  readonly contexts: readonly MetaContext[];
}

/** Whether the connection is encrypted, and whether it must or may become so. */
export type Encryption = "none" | "optional" | "required" | "done";

export interface HandshakeEvents {
  send(bytes: Uint8Array): void;
  /** The client may now send requests; `rest` is what already came after its last option. */
  done(session: Session, rest: Buffer): void;
  /** The client was told to begin TLS; on the encrypted stream a handshake with `afterTls` follows. */
  startTls(clientFlags: number): void;
  /** Ends the connection: `polite` after what was sent has left, otherwise at once. */
  end(polite: boolean): void;
  /** An export could not be offered; the client was told only that. */
  failed(error: unknown): void;
}

/** Data of one option that are kept in memory; longer ones are read past and answered with ERR_TOO_BIG. */
const MAX_OPTION = 64 << 10;
const MAX_SKIPPED = 1 << 20;
/** A client that goes on forever without choosing an export. */
const MAX_OPTIONS = 1024;

export class Handshake {
  readonly #exports: ExportSource;
  readonly #events: HandshakeEvents;
  readonly #encryption: Encryption;
  #input: Buffer = Buffer.alloc(0);
  #ended = false;
  #clientFlags: number | undefined;
  #options = 0;
  #skip = 0;
  #structuredReplies = false;
  #extendedHeaders = false;
  /** What was selected, and for which export. */
  #selection: { readonly of: string; readonly contexts: readonly MetaContext[] } | undefined;

  /** `afterTls`: the client flags of the handshake that went before in the clear. */
  constructor(exports: ExportSource, encryption: Encryption, events: HandshakeEvents, afterTls?: number) {
    this.#exports = exports;
    this.#encryption = encryption;
    this.#events = events;
    this.#clientFlags = afterTls;
  }

  start(): void {
    this.#events.send(GREETING.encode({ handshakeFlags: HANDSHAKE_FLAG.FIXED_NEWSTYLE | HANDSHAKE_FLAG.NO_ZEROES }));
  }

  receive(chunk: Buffer): void {
    this.#input = this.#input.length === 0 ? chunk : Buffer.concat([this.#input, chunk]);
    while (!this.#ended && this.#step());
  }

  /** Does one message. False when it has not come in whole. */
  #step(): boolean {
    if (this.#skip > 0)
      return this.#take(Math.min(this.#skip, this.#input.length), (data) => (this.#skip -= data.length));
    if (this.#clientFlags === undefined)
      return this.#take(CLIENT_FLAGS.size, (data) => this.#greeted(CLIENT_FLAGS.decode(data).flags));
    if (this.#input.length < OPTION.size) return false;
    if (this.#input.readBigUInt64BE(OPTION.fields.magic.offset) !== IHAVEOPT) return this.#end(false);
    const { option, length } = OPTION.decode(this.#input);
    if (length > MAX_OPTION) return this.#tooBig(option, length);
    if (this.#input.length < OPTION.size + length) return false;
    if (++this.#options > MAX_OPTIONS) return this.#end(false);
    return this.#take(OPTION.size + length, (data) => this.#answer(option, data.subarray(OPTION.size)));
  }

  #take(length: number, use: (data: Buffer) => void): boolean {
    if (length === 0 || this.#input.length < length) return false;
    const data = this.#input.subarray(0, length);
    this.#input = this.#input.subarray(length);
    use(data);
    return true;
  }

  #end(polite: boolean): false {
    this.#ended = true;
    this.#events.end(polite);
    return false;
  }

  #greeted(flags: number): void {
    const known = CLIENT_FLAG.FIXED_NEWSTYLE | CLIENT_FLAG.NO_ZEROES;
    if ((flags & ~known) !== 0) this.#end(false);
    this.#clientFlags = flags;
  }

  #tooBig(option: number, length: number): boolean {
    // EXPORT_NAME has no error reply; the document leaves only hanging up.
    if (option === OPT.EXPORT_NAME || length > MAX_SKIPPED) return this.#end(false);
    this.#skip = length;
    this.#options++;
    return this.#take(OPTION.size, () =>
      this.#reply(option, REP.ERR_TOO_BIG, `the option has ${length} bytes, allowed 0..${MAX_OPTION}`),
    );
  }

  #reply(option: number, type: number, data: Uint8Array | string = ""): void {
    const payload = typeof data === "string" ? Buffer.from(data) : data;
    const message = Buffer.alloc(OPTION_REPLY.size + payload.length);
    OPTION_REPLY.encode({ option, type, length: payload.length }, message);
    message.set(payload, OPTION_REPLY.size);
    this.#events.send(message);
  }

  #answer(option: number, data: Buffer): void {
    try {
      this.#execute(option, data);
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(REP.ERR_PLATFORM, "the export cannot be offered");
      if (refusal !== error) this.#events.failed(error);
      if (option === OPT.EXPORT_NAME) return void this.#end(false); // it has no error reply
      this.#reply(option, refusal.type, refusal.message);
    }
  }

  #execute(option: number, data: Buffer): void {
    if (this.#encryption === "required" && option !== OPT.STARTTLS && option !== OPT.ABORT)
      throw new Refusal(REP.ERR_TLS_REQD, "this server demands TLS");
    switch (option) {
      case OPT.EXPORT_NAME:
        this.#exportName(data);
        break;
      case OPT.ABORT:
        this.#reply(option, REP.ACK);
        this.#end(true);
        break;
      case OPT.LIST:
        this.#list(data);
        break;
      case OPT.INFO:
      case OPT.GO:
        this.#info(option, data);
        break;
      case OPT.STRUCTURED_REPLY:
        requireEmpty(data);
        if (this.#extendedHeaders) throw new Refusal(REP.ERR_EXT_HEADER_REQD, "extended headers were negotiated");
        this.#structuredReplies = true;
        this.#reply(option, REP.ACK);
        break;
      case OPT.EXTENDED_HEADERS:
        requireEmpty(data);
        this.#extendedHeaders = true;
        this.#reply(option, REP.ACK);
        break;
      case OPT.STARTTLS:
        this.#startTls(data);
        break;
      case OPT.LIST_META_CONTEXT:
      case OPT.SET_META_CONTEXT:
        this.#metaContext(option, data);
        break;
      default:
        throw new Refusal(REP.ERR_UNSUP, "this server does not know the option");
    }
  }

  /** What came after the option was not encrypted: taking it for part of the encrypted conversation would let anybody speak there. */
  #startTls(data: Buffer): void {
    requireEmpty(data);
    if (this.#encryption === "done") throw new Refusal(REP.ERR_INVALID, "the connection is encrypted already");
    if (this.#encryption === "none") throw new Refusal(REP.ERR_UNSUP, "this server has no TLS");
    if (this.#input.length > 0) return void this.#end(false);
    this.#reply(OPT.STARTTLS, REP.ACK);
    this.#ended = true;
    this.#events.startTls(this.#clientFlags!);
  }

  #exportName(data: Buffer): void {
    // With extended headers the document leaves only GO.
    if (data.length > MAX_STRING || this.#extendedHeaders) return void this.#end(false);
    const found = this.#require(data.toString());
    const zeroes = this.#clientFlags! & CLIENT_FLAG.NO_ZEROES ? 0 : EXPORT_NAME_ZEROES;
    const reply = Buffer.alloc(EXPORT_NAME_REPLY.size + zeroes);
    EXPORT_NAME_REPLY.encode(
      { size: found.export.device.size, flags: transmissionFlags(found.export, this.#chunks) },
      reply,
    );
    this.#events.send(reply);
    this.#done(found);
  }

  #list(data: Buffer): void {
    requireEmpty(data);
    if (typeof this.#exports === "function") throw new Refusal(REP.ERR_POLICY, "this server does not list its exports");
    for (const [name, { description = "", requireTls = false }] of this.#exports) {
      if (requireTls && this.#encryption !== "done") continue;
      const text = Buffer.from(name);
      this.#reply(OPT.LIST, REP.SERVER, Buffer.concat([be32(text.length), text, Buffer.from(description)]));
    }
    this.#reply(OPT.LIST, REP.ACK);
  }

  /** Replies may come in chunks. */
  get #chunks(): boolean {
    return this.#structuredReplies || this.#extendedHeaders;
  }

  #info(option: number, data: Buffer): void {
    const reader = new OptionReader(data);
    const found = this.#require(reader.string());
    const wanted = new Set(Array.from({ length: reader.u16() }, () => reader.u16()));
    reader.end();
    const { device, description } = found.export;
    const { minimum, preferred, maximumPayload } = blockSizes(device);
    const flags = transmissionFlags(found.export, this.#chunks);
    this.#reply(option, REP.INFO, INFO_EXPORT.encode({ size: device.size, flags }));
    // Sent to everybody: a client that did not ask can still look at it, and one that ignores it gets EINVAL for what does not fit.
    this.#reply(option, REP.INFO, INFO_BLOCK_SIZE.encode({ minimum, preferred, maximumPayload }));
    if (wanted.has(INFO.NAME)) this.#reply(option, REP.INFO, Buffer.concat([be16(INFO.NAME), Buffer.from(found.name)]));
    if (wanted.has(INFO.DESCRIPTION) && description)
      this.#reply(option, REP.INFO, Buffer.concat([be16(INFO.DESCRIPTION), Buffer.from(description)]));
    this.#reply(option, REP.ACK);
    if (option === OPT.GO) this.#done(found);
  }

  #metaContext(option: number, data: Buffer): void {
    const listing = option === OPT.LIST_META_CONTEXT;
    if (!listing) this.#selection = undefined; // a refused selection clears the former one too
    if (!this.#chunks) throw new Refusal(REP.ERR_INVALID, "structured replies were not negotiated");
    const reader = new OptionReader(data);
    const found = this.#require(reader.string());
    const count = reader.u32();
    const queries: string[] = [];
    for (let i = 0; i < count; i++) queries.push(reader.string());
    reader.end();
    const contexts = matchContexts(found.export, queries, listing);
    for (const { id, name } of contexts)
      this.#reply(option, REP.META_CONTEXT, Buffer.concat([be32(listing ? 0 : id), Buffer.from(name)]));
    if (!listing) this.#selection = { of: found.name, contexts };
    this.#reply(option, REP.ACK);
  }

  #require(name: string): FoundExport {
    const found = findExport(this.#exports, name);
    if (!found) throw new Refusal(REP.ERR_UNKNOWN, `there is no export ${JSON.stringify(name)}`);
    if (found.export.requireTls && this.#encryption !== "done")
      throw new Refusal(REP.ERR_TLS_REQD, `the export ${JSON.stringify(name)} demands TLS`);
    return found;
  }

  #done(found: FoundExport): void {
    this.#ended = true;
    const rest = this.#input;
    this.#input = Buffer.alloc(0);
    // Contexts that were selected for another export do not count.
    const contexts = this.#selection?.of === found.name ? this.#selection.contexts : [];
    const session = { ...found, structuredReplies: this.#chunks, extendedHeaders: this.#extendedHeaders, contexts };
    this.#events.done(session, rest);
  }
}
