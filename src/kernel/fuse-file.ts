/** A block device as a file that the kernel can open: a FUSE connection, its session, and the thread that waits for requests. */
import type { BlockDevice } from "../block/device.js";
import { type OpenDescriptor, openDescriptor } from "../os/device-control.js";
import { type FuseConnection, openFuse, withFuseMounted } from "../os/fuse.js";
import { FuseSession } from "./fuse-session.js";
import { Readiness } from "./readiness.js";
import type { Runner } from "./session-runner.js";
import { inTurn } from "./turns.js";

const O_RDONLY = 0;
const O_RDWR = 2;
/** A file that nobody has open goes within milliseconds; one that is still open must not keep a detach waiting. */
const GOODBYE_MS = 2000;

export interface FuseFileOptions {
  readonly device: BlockDevice;
  readonly name: string;
  readonly runner: Runner;
  onWriterClosed(): void;
  /** The kernel has let go of the file, and nobody has closed this: somebody has taken its loop device away. */
  onLost(): void;
  onError(message: string): void;
}

export class FuseFile {
  readonly #connection: FuseConnection;
  readonly #readiness: Readiness;
  readonly #session: FuseSession;
  readonly #options: FuseFileOptions;
  readonly #gone: Promise<void>;
  #mounted = false;
  #closed: Promise<void> | undefined;

  private constructor(options: FuseFileOptions, connection: FuseConnection) {
    const { device, name, runner } = options;
    this.#options = options;
    this.#connection = connection;
    this.#readiness = new Readiness({
      connection: connection.fd,
      onReadable: () => runner.wake(),
      onWriterClosed: options.onWriterClosed,
      onFailure: (message) => {
        options.onError(`${name}: cannot wait for the kernel: ${message}`);
        this.#session.end(0);
        connection.close(); // whoever waits for an answer gets an error
      },
    });
    let gone!: () => void;
    this.#gone = new Promise((resolve) => {
      gone = resolve;
    });
    this.#session = new FuseSession({
      channel: connection,
      device,
      name,
      arm: () => this.#readiness.arm(),
      wake: () => runner.wake(),
      onEnd: () => {
        gone();
        if (!this.#closed) options.onLost();
      },
    });
  }

  /** Runs `work` with the file open; afterwards the file system lives as long as somebody has the file open. */
  static async serve(options: FuseFileOptions, work: (file: OpenDescriptor) => Promise<void>): Promise<FuseFile> {
    const served = new FuseFile(options, openFuse());
    try {
      await inTurn(() => served.#withFile(work));
      return served;
    } catch (error) {
      await served.close();
      throw error;
    }
  }

  /** Bytes. */
  get size(): number {
    return this.#session.size;
  }

  set size(size: number) {
    this.#session.size = size;
  }

  /** Whether the kernel has let go of it. */
  get ended(): boolean {
    return this.#session.ended;
  }

  /** `onWriterClosed` is called for it, too. */
  watch(path: string): void {
    this.#readiness.watch(path);
  }

  /** Waits a moment for the kernel to let go of the file; whoever still has it open gets errors from then on. Idempotent. */
  close(): Promise<void> {
    return (this.#closed ??= this.#close());
  }

  async #withFile(work: (file: OpenDescriptor) => Promise<void>): Promise<void> {
    const { device, name, runner } = this.#options;
    await withFuseMounted(this.#connection, async (root) => {
      runner.add(this.#session); // not sooner: a connection that is not mounted cannot be read
      this.#mounted = true;
      const file = await openDescriptor(`${root}/${name}`, device.writable ? O_RDWR : O_RDONLY);
      try {
        await work(file);
      } finally {
        await file.close();
      }
    });
  }

  async #close(): Promise<void> {
    if (this.#mounted) await this.#patience();
    await this.#readiness.stop(); // before its descriptor's number may mean something else
    this.#session.end(0);
    this.#options.runner.remove(this.#session);
    this.#connection.close();
  }

  async #patience(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const over = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, GOODBYE_MS);
    });
    await Promise.race([this.#gone, over]);
    clearTimeout(timer);
  }
}
