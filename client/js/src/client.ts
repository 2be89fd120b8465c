import { Acks } from './acks.js';
import { Calls } from './calls.js';
import { Code, isSuccess } from './codes.js';
import type { Connection } from './connection.js';
import { type Contact, Contacts, type Status } from './contacts.js';
import { Emitter } from './emitter.js';
import { type Environment, system } from './environment.js';
import { ClosedError, ConnectionLostError, OverrunError, ServerError, TimeoutError } from './errors.js';
import { type Frame, FrameType } from './frames.js';
import { definedOf, Groups, type PageOptions, pageOf, type UserPage } from './groups.js';
import { Inbox } from './inbox.js';
import { Link, type State } from './link.js';
import { type Login, renewalDelay } from './login.js';
import { messageOf, textContent } from './message.js';
import { type ClientOptions, type Settings, settingsOf } from './options.js';
import { Outbox } from './outbox.js';
import { frameOf, type Outgoing, type Receipt, receiptOf } from './outgoing.js';
import { defaultWebSocket, gatewayURL } from './socket.js';

/** The events of a client and what their listeners get. */
export interface ClientEvents {
  state: State;
  /** Those on the list of {@link Client.contacts} who have changed, by how they are now. */
  presence: readonly Contact[];
  /** What went wrong and no promise tells: refusals by the server, handlers that failed. Without a listener, console.error. */
  error: Error;
}

/** How long a logout waits for acknowledgements to be confirmed. */
const logOutTimeoutMs = 5_000;

/**
 * One device of one user. It stays connected until close or logOut is called, or the server ends the session for good.
 * Whatever waits for the server waits through reconnects, up to its timeout.
 */
export class Client {
  /** Makes and manages groups. */
  readonly groups: Groups;
  /** Asks how other users are, and who is to be told about. */
  readonly contacts: Contacts;
  readonly #settings: Settings;
  readonly #environment: Environment;
  readonly #events = new Emitter<ClientEvents>();
  readonly #link: Link;
  readonly #outbox: Outbox;
  readonly #acks: Acks;
  readonly #calls: Calls;
  readonly #inbox: Inbox | undefined;
  readonly #online: Promise<Login>;
  readonly #login: Frame;
  #status: { status: Status; text: string } = { status: 'online', text: '' };
  #settleOnline: (result: Login | Error) => void = () => {};
  #cancelRenewal = () => {};

  /** Makes a client that is not connected. Throws a TypeError about options that cannot work. */
  constructor(options: ClientOptions, environment: Environment = system) {
    const settings = settingsOf(options);
    const backoff = { minMs: settings.minDelayMs, maxMs: settings.maxDelayMs };
    this.#settings = settings;
    this.#environment = environment;
    const limits = {
      maxMessages: settings.maxUnanswered,
      maxBytes: settings.maxUnansweredBytes,
      maxFrameBytes: settings.maxFrameBytes,
      framesPerSecond: settings.maxMessagesPerSecond,
      bytesPerSecond: settings.maxBytesPerSecond,
    };
    this.#outbox = new Outbox(limits, backoff, environment);
    this.#acks = new Acks(backoff, environment);
    this.#calls = new Calls(environment);
    this.#inbox = this.#makeInbox(options);
    this.#login = loginFrameOf(options);
    this.#link = this.#makeLink(options);
    this.groups = new Groups((frame) => this.#call(frame));
    this.contacts = new Contacts({
      call: (frame) => this.#call(frame),
      onChange: (changes) => this.#events.emit('presence', changes),
      onError: (error) => this.#complain(error),
      environment,
      timeoutMs: settings.sendTimeoutMs,
    });
    this.#online = new Promise<Login>((resolve, reject) => {
      this.#settleOnline = (result) => (result instanceof Error ? reject(result) : resolve(result));
    });
    this.#online.catch(() => {}); // who never called connect does not wait for it
  }

  /** What the client is doing about its connection. The event `state` tells changes. */
  get state(): State {
    return this.#link.state;
  }

  /** How many messages wait for their receipts. */
  get unanswered(): number {
    return this.#outbox.size;
  }

  /** Adds a listener of an event. Returns how to remove it. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): () => void {
    return this.#events.on(name, listener);
  }

  /**
   * Connects, and resolves when the user has logged in for the first time. It tries until that succeeds; a refusal that
   * time does not heal is a ServerError, and ends the client. It stays connected from then on.
   */
  connect(): Promise<Login> {
    if (this.state.status === 'new') {
      this.#link.start();
    }
    return this.#online;
  }

  /** Sends a message. It may be called at any time; messages wait until there is a connection. */
  async send(message: Outgoing): Promise<Receipt> {
    this.#throwIfClosed();
    const clientMsgId = message.clientMsgId ?? this.#environment.uniqueId();
    const timeoutMs = message.timeoutMs ?? this.#settings.sendTimeoutMs;
    const answer = await this.#outbox.send(frameOf(message, clientMsgId), timeoutMs, message.signal);
    return receiptOf(answer, clientMsgId);
  }

  /** Sends a text message to a user; see {@link Client.send}. */
  sendText(to: string, text: string): Promise<Receipt> {
    return this.send({ to, content: textContent(text) });
  }

  /**
   * Acknowledges a message; needed with the option ack: "manual" only. It outlives reconnects, so there is no need to wait
   * for the promise, which resolves when the server has confirmed it.
   */
  ack(msgId: string): Promise<void> {
    if (this.state.status === 'closed') {
      return Promise.reject(this.#closedError());
    }
    this.#inbox?.acknowledged(msgId);
    const confirmed = this.#acks.add(msgId);
    confirmed.catch(() => {}); // the server sends the message again then
    return confirmed;
  }

  /**
   * Gives a message back that cannot be handled now; with the option ack: "manual" only. It is handed out again when it
   * comes again: after 5, 10, 20, 40 and 80 s, and at the next login.
   */
  giveBack(msgId: string): void {
    this.#inbox?.giveBack(msgId);
  }

  /** Returns a page of those who are online, if the server allows it. */
  async online(page: PageOptions = {}): Promise<UserPage> {
    return pageOf(await this.#call({ type: FrameType.OnlineList, ...definedOf(page) }));
  }

  /** What others see of this user, by the last login and the last setStatus of this client. */
  get status(): { readonly status: Status; readonly text: string } {
    return { ...this.#status };
  }

  /** Sets what others see of this user, on all devices. It persists until it is set again. */
  async setStatus(status: Status, text = ''): Promise<void> {
    const frame: Frame = { type: FrameType.SetStatus, status };
    if (text !== '') {
      frame.statusText = text;
    }
    this.#noteStatus(await this.#call(frame));
  }

  /** Waits for an answer of the server and returns how long it took, in milliseconds. */
  ping(timeoutMs = 10_000): Promise<number> {
    const connection = this.#link.connection;
    if (connection === undefined) {
      return Promise.reject(new ConnectionLostError('there is no connection'));
    }
    const start = this.#environment.now();
    return new Promise((resolve, reject) => {
      const cancel = this.#environment.after(timeoutMs, () => reject(new TimeoutError('ping', timeoutMs)));
      connection.ping(() => {
        cancel();
        resolve(this.#environment.now() - start);
      });
    });
  }

  /**
   * Asks the token provider for a token and gives it to the server, so that the session goes on when the token before
   * expires. The client does it by itself in time if the server says when that is.
   */
  async renewToken(): Promise<void> {
    const token = await this.#link.freshToken();
    this.#renewLater(await this.#call({ ...this.#login, token }));
  }

  /**
   * Takes the device offline and ends the client, after what was handled has been acknowledged: nothing else waits.
   * Resolves when the server has confirmed it, or does not answer.
   */
  async logOut(): Promise<void> {
    this.#inbox?.close();
    await this.#acks.idle(logOutTimeoutMs);
    await this.#link.logOut();
  }

  /**
   * Ends the client without logging out: the device is shown online for a grace period. What waits fails with a
   * ClosedError; messages that were not handled come again at the next login.
   */
  close(): void {
    this.#link.close();
  }

  #makeInbox(options: ClientOptions): Inbox | undefined {
    const { onMessage } = options;
    return (
      onMessage &&
      new Inbox({
        handle: onMessage,
        dedupe: options.dedupe,
        autoAck: this.#settings.ack === 'auto',
        acknowledge: (msgId) => {
          this.#acks.add(msgId).catch(() => {}); // the server sends the message again then
        },
        maxWaiting: this.#settings.maxWaitingMessages,
        onError: (error) => this.#complain(error),
      })
    );
  }

  #makeLink(options: ClientOptions): Link {
    return new Link({
      settings: this.#settings,
      urls: urlsOf(options.url),
      WebSocket: options.WebSocket ?? defaultWebSocket(),
      environment: this.#environment,
      login: this.#login,
      onState: (state) => {
        if (state.status === 'online') {
          this.#settleOnline(state.login);
        }
        this.#events.emit('state', state);
      },
      onOnline: (connection, answer) => this.#connected(connection, answer),
      onOffline: (reason) => this.#disconnected(reason),
      onFrame: (frame) => this.#receive(frame),
      onEnd: (reason) => this.#closed(reason),
    });
  }

  #connected(connection: Connection, answer: Frame): void {
    const send = (frame: Frame) => connection.send(frame);
    this.#noteStatus(answer);
    delete this.#login.status; // later logins leave it as it is by then
    delete this.#login.statusText;
    this.#calls.disconnected(new ConnectionLostError('the client moved to another gateway'));
    this.#acks.connected(send);
    this.#outbox.connected((text) => connection.sendText(text));
    this.#calls.connected(send);
    this.contacts.connected();
    this.#renewLater(answer);
  }

  #disconnected(reason: Error): void {
    if (reason instanceof ServerError && reason.code === Code.FrameTooLarge) {
      this.#outbox.refuseLargest(reason);
    }
    this.#cancelRenewal();
    this.#outbox.disconnected();
    this.#acks.disconnected();
    this.contacts.disconnected();
    this.#calls.disconnected(new ConnectionLostError(reason.message));
  }

  #closed(reason: Error | undefined): void {
    const error = new ClosedError(reason);
    this.#cancelRenewal();
    this.#inbox?.close();
    this.#outbox.close(error);
    this.#acks.close(error);
    this.contacts.close(error);
    this.#calls.close(error);
    this.#settleOnline(reason ?? error);
  }

  #receive(frame: Frame): void {
    switch (frame.type) {
      case FrameType.Chat:
      case FrameType.GroupChat:
      case FrameType.Broadcast:
        this.#take(frame);
        return;
      case FrameType.ChatResp:
      case FrameType.GroupChatResp:
      case FrameType.BroadcastResp:
        this.#complainUnless(this.#outbox.answer(frame), frame);
        return;
      case FrameType.AckResp:
        this.#complainUnless(this.#acks.answer(frame), frame);
        return;
      case FrameType.LoginResp:
      case FrameType.GroupResp:
      case FrameType.OnlineListResp:
      case FrameType.PresenceResp:
      case FrameType.SetStatusResp:
        this.#complainUnless(this.#calls.answer(frame), frame);
        return;
      case FrameType.SubscribeResp:
        this.contacts.told(frame); // before an event that follows
        this.#complainUnless(this.#calls.answer(frame), frame);
        return;
      case FrameType.PresenceEvent:
        this.contacts.told(frame);
        return;
      case FrameType.Unknown:
        this.#complain(ServerError.of(frame));
        return;
      default: // of a newer server
    }
  }

  #take(frame: Frame): void {
    const message = messageOf(frame, this);
    if (message === undefined || this.#inbox === undefined) {
      return;
    }
    const inbox = this.#inbox;
    try {
      inbox.receive(message);
    } catch (error) {
      if (!(error instanceof OverrunError)) {
        throw error;
      }
      this.#complain(error);
      this.#link.interrupt(new ConnectionLostError(error.message), (callback) => inbox.whenRoom(callback));
    }
  }

  async #call(frame: Frame): Promise<Frame> {
    this.#throwIfClosed();
    return this.#calls.call(frame, this.#settings.loginTimeoutMs);
  }

  /** Renews the token of a provider before it expires. What fails, the expiry itself puts right. */
  #renewLater(answer: Frame): void {
    this.#cancelRenewal();
    const delay = typeof this.#settings.token === 'function' ? renewalDelay(answer) : undefined;
    if (delay !== undefined) {
      this.#cancelRenewal = this.#environment.after(delay, () => {
        this.renewToken().catch(() => {});
      });
    }
  }

  #noteStatus(answer: Frame): void {
    this.#status = { status: (answer.status ?? 'online') as Status, text: answer.statusText ?? '' };
  }

  #throwIfClosed(): void {
    if (this.state.status === 'closed') {
      throw this.#closedError();
    }
  }

  #closedError(): ClosedError {
    return new ClosedError(this.state.status === 'closed' ? this.state.reason : undefined);
  }

  #complainUnless(awaited: boolean, frame: Frame): void {
    if (!awaited && !isSuccess(frame.code ?? Code.Internal)) {
      this.#complain(ServerError.of(frame));
    }
  }

  #complain(error: Error): void {
    if (!this.#events.emit('error', error)) {
      console.error(error);
    }
  }
}

function loginFrameOf(options: ClientOptions): Frame {
  const frame: Frame = { type: FrameType.Login };
  if (options.deviceId !== undefined) {
    frame.deviceId = options.deviceId;
  }
  if (options.platform !== undefined) {
    frame.platform = options.platform;
  }
  if (options.status !== undefined) {
    frame.status = options.status;
  }
  if (options.statusText !== undefined) {
    frame.statusText = options.statusText;
  }
  return frame;
}

function urlsOf(url: string | readonly string[]): string[] {
  const urls = (typeof url === 'string' ? [url] : url).map(gatewayURL);
  if (urls.length === 0) {
    throw new TypeError('option url is empty');
  }
  return urls;
}
