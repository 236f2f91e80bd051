/** The daemon's control API: JSON over HTTP on a unix socket, one route a line. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { DiskError } from "../errors.js";
import type { AttachedDevice, Dom0Status, DomainInfo } from "./api-types.js";
import { createConfiguredDomain } from "./configured-domain.js";
import type { Host } from "./host.js";
import { METRICS_TYPE, metricsText } from "./metrics.js";
import {
  arrivalPlan,
  attachRequest,
  changeVolumesRequest,
  createDomainRequest,
  migrateRequest,
  resizeRequest,
  restoreRequest,
  saveRequest,
  shutdownRequest,
} from "./requests.js";
import { MAX_SAVED } from "./saved-domain.js";
import { plainError } from "./thread-rpc.js";

export interface ApiContext {
  readonly host: Host;
  status(): Promise<Dom0Status>;
  /** Called when a client has asked the daemon to stop and was answered. */
  stop(): void;
}

interface Call {
  readonly words: readonly string[];
  readonly query: URLSearchParams;
  readonly body: Record<string, unknown>;
  /** The body of a route with `maxBytes`, which is no JSON. */
  readonly bytes: Uint8Array;
  /** Aborted when the client has gone before it was answered. */
  readonly signal: AbortSignal;
}

interface Route {
  /** The body is bytes, at most so many, rather than JSON. */
  readonly maxBytes?: number;
  /** The result is a text of this type rather than a JSON document. */
  readonly type?: string;
  run(context: ApiContext, call: Call): Promise<unknown>;
  /** Takes the result back when its client was gone before it could be told: an interrupted attach attaches nothing. */
  undo?(context: ApiContext, result: never): Promise<unknown>;
}

const ROUTES: Readonly<Record<string, Route>> = {
  "GET status": { run: (context) => context.status() },
  "GET domains": { run: ({ host }) => host.domains() },
  "POST domains": {
    run: ({ host }, { body }) => createConfiguredDomain(host, createDomainRequest(body)),
    undo: ({ host }, { domid }: DomainInfo) => host.destroyDomain(String(domid)),
  },
  "DELETE domains": { run: ({ host }, { words }) => host.destroyDomain(words[0] ?? "").then(() => ({})) },
  "POST pause": { run: ({ host }, { words }) => host.lifecycle.pause(words[0] ?? "").then(() => ({})) },
  "POST unpause": { run: ({ host }, { words }) => host.lifecycle.unpause(words[0] ?? "").then(() => ({})) },
  "POST shutdown": {
    run: ({ host }, { words, body }) => host.lifecycle.shutdown(words[0] ?? "", shutdownRequest(body)).then(() => ({})),
  },
  "POST save": {
    run: ({ host }, { words, body, signal }) => host.saves.save(words[0] ?? "", saveRequest(body), signal),
  },
  "POST restore": {
    run: ({ host }, { body }) => host.saves.restore(restoreRequest(body)),
    undo: ({ host }, { domid }: DomainInfo) => host.destroyDomain(String(domid)),
  },
  "POST migrate": {
    run: ({ host }, { words, body, signal }) => host.migrations.migrate(words[0] ?? "", migrateRequest(body), signal),
  },
  "GET migrate": { run: async ({ host }, { words }) => host.migrations.progress(words[0] ?? "") },
  "POST arrivals": { run: ({ host }, { body }) => host.arrivals.check(arrivalPlan(body)).then(() => ({})) },
  "PUT arrivals": {
    maxBytes: MAX_SAVED,
    run: ({ host }, { words, bytes }) => host.arrivals.take(words[0] ?? "", bytes),
  },
  "DELETE arrivals": {
    run: async ({ host }, { words }) => ({ arrival: await host.arrivals.callOff(words[0] ?? "") }),
  },
  "POST devices": {
    run: ({ host }, { body }) => host.attach(attachRequest(body)),
    undo: ({ host }, { number, domid }: AttachedDevice) =>
      host.detach(String(number), { domain: String(domid), force: true }),
  },
  "DELETE devices": {
    run({ host }, { words, query }) {
      const domain = query.get("domain");
      return host.detach(words[0] ?? "", {
        force: query.get("force") === "1",
        ...(domain === null ? {} : { domain }),
      });
    },
  },
  "GET details": {
    run({ host }, { query }) {
      const [domain, device] = [query.get("domain"), query.get("device")];
      return host.details(domain ?? undefined, device === null ? undefined : Number(device));
    },
  },
  "GET io": { run: ({ host }) => host.io() },
  "GET metrics": { type: METRICS_TYPE, run: async ({ host }) => metricsText(await host.io()) },
  "POST resize": { run: ({ host }, { words, body }) => host.resize(words[0] ?? "", resizeRequest(body)) },
  "POST volumes": {
    run: async ({ host }, { body }) => ({ result: await host.changeVolumes(changeVolumesRequest(body)) }),
  },
  "GET block-devices": { run: ({ host }, { words }) => host.blockDevices(words[0] ?? "") },
  "POST stop": {
    async run({ host }, { query }) {
      if (query.get("force") !== "1") await host.refuseKernelUse();
      await host.stop();
      return {};
    },
  },
};

const MAX_BODY = 1 << 20;

/** Answers one request; every failure is a JSON error in the form of the command line. */
export async function answer(context: ApiContext, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", "http://dom0");
  const [resource = "", ...words] = url.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  const name = `${request.method} ${resource}`;
  try {
    const route = Object.hasOwn(ROUTES, name) ? ROUTES[name] : undefined;
    if (!route) throw new DiskError("NOT_FOUND", `Cannot answer ${name}: there is no such route`);
    const bytes = await readBytes(request, route.maxBytes ?? MAX_BODY);
    const body = route.maxBytes ? {} : parseBody(bytes);
    const call = { words, query: url.searchParams, body, bytes, signal: goneSignal(response) };
    const result = await route.run(context, call);
    if (response.destroyed) await route.undo?.(context, result as never);
    else if (route.type) sendText(response, 200, route.type, result as string);
    else send(response, 200, result);
    if (name === "POST stop") context.stop();
  } catch (error) {
    send(response, 400, { error: plainError(error) });
  }
}

function goneSignal(response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  response.once("close", () => controller.abort(new DiskError("IO", "the client has gone")));
  return controller.signal;
}

function send(response: ServerResponse, status: number, document: unknown): void {
  sendText(response, status, "application/json", JSON.stringify(document));
}

function sendText(response: ServerResponse, status: number, type: string, text: string): void {
  const bytes = Buffer.from(text);
  response.writeHead(status, { "content-type": type, "content-length": bytes.length });
  response.end(bytes);
}

async function readBytes(request: IncomingMessage, most: number): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > most) throw new DiskError("PROTOCOL", `Cannot read the request: its body is larger than ${most} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

function parseBody(bytes: Uint8Array): Record<string, unknown> {
  if (bytes.length === 0) return {};
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (error) {
    throw new DiskError("PROTOCOL", "Cannot read the request: its body is no JSON", { cause: error });
  }
  if (typeof document !== "object" || document === null || Array.isArray(document))
    throw new DiskError("PROTOCOL", "Cannot read the request: its body is no JSON object");
  return document as Record<string, unknown>;
}
