/**
 * What callers send who want to break a server that speaks HTTP, JSON and tensors. None of it is a request that may be
 * answered as if it were good; `SMUGGLED` stands in whatever must never reach a model.
 */
export interface HostileRequest {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface HostileTargets {
  /** Names of a model of tensors with one FP32 input, and of a model of text. */
  readonly tensors: string;
  readonly input: string;
  readonly text: string;
}

/** The value that only smuggled requests ask with. */
export const SMUGGLED = 666;

export function hostileRequests(targets: HostileTargets): readonly HostileRequest[] {
  return [...hostileHttp(targets), ...hostileJson(targets), ...hostileTensors(targets)];
}

/** RFC 9112 and the ways around it (Linhart and others, "HTTP Request Smuggling", 2005, and its descendants). */
export function hostileHttp({ tensors, input }: HostileTargets): readonly HostileRequest[] {
  const infer = `/v2/models/${tensors}/infer`;
  const json = `{"inputs":[{"name":"${input}","datatype":"FP32","shape":[1,4],"data":[${SMUGGLED},1,1,1]}]}`;
  const hidden = `POST ${infer} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: ${json.length}\r\n\r\n${json}`;
  const post = (headers: string, body = ''): string =>
    `POST ${infer} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\n${headers}\r\n\r\n${body}`;
  const get = (headers: string): string => `GET /v2 HTTP/1.1\r\nhost: e\r\n${headers}\r\n\r\n`;
  const chunked = (body: string): string => post('transfer-encoding: chunked', body);
  const texts: readonly (readonly [string, string])[] = [
    ['two lengths', post('content-length: 4\r\ncontent-length: 400', hidden)],
    ['two lengths in one header', post('content-length: 4, 400', hidden)],
    ['a length and chunks', post('content-length: 4\r\ntransfer-encoding: chunked', `0\r\n\r\n${hidden}`)],
    ['chunks and a length', post('transfer-encoding: chunked\r\ncontent-length: 5', `0\r\n\r\n${hidden}`)],
    ['chunks, and then not', post('transfer-encoding: chunked, identity', `0\r\n\r\n${hidden}`)],
    ['nearly chunked', post('transfer-encoding: xchunked', `0\r\n\r\n${hidden}`)],
    ['chunked twice', post('transfer-encoding: chunked\r\ntransfer-encoding: x', `0\r\n\r\n${hidden}`)],
    ['a space before the colon', post('transfer-encoding : chunked', `0\r\n\r\n${hidden}`)],
    ['a length with a sign', post('content-length: +4', `null${hidden}`)],
    ['a negative length', post('content-length: -1', hidden)],
    ['a length beyond 64 bits', post('content-length: 18446744073709551620', hidden)],
    ['a length in hexadecimal', post('content-length: 0x4', hidden)],
    ['a chunk of a negative size', chunked(`-1\r\n\r\n${hidden}`)],
    ['a chunk of a size in another notation', chunked(`0x4\r\nnull\r\n0\r\n\r\n${hidden}`)],
    ['a chunk of a size beyond 64 bits', chunked(`10000000000000004\r\nnull\r\n0\r\n\r\n${hidden}`)],
    ['a chunk that is longer than its size', chunked(`1\r\nnull\r\n0\r\n\r\n${hidden}`)],
    ['a chunk that ends in a bare line feed', chunked(`4\nnull\n0\n\n${hidden}`)],
    ['an extension of a chunk without end', chunked(`4;${'x'.repeat(64 * 1024)}\r\nnull\r\n0\r\n\r\n`)],
    ['trailers without end', chunked(`0\r\n${'x: y\r\n'.repeat(8192)}\r\n`)],
    ['a folded header', get('x: a\r\n transfer-encoding: chunked')],
    ['a NUL in a value', get('x: a\0b')],
    ['a NUL in a name', get('x\0: a')],
    ['bare line feeds', `GET /v2 HTTP/1.1\nhost: e\n\n${hidden.replaceAll('\r\n', '\n')}`],
    ['a bare carriage return', get('x: a\rtransfer-encoding: chunked')],
    ['a long name', get(`${'x'.repeat(20_000)}: y`)],
    ['a long value', get(`x: ${'y'.repeat(20_000)}`)],
    ['a header without a name', get(': y')],
    ['a header without a colon', get('transfer-encoding chunked')],
    ['a name of other letters', get('transfer-encod\xe9ng: chunked')],
    ['two hosts', get('host: other')],
    ['no host', 'GET /v2 HTTP/1.1\r\n\r\n'],
    ['the target of a proxy', 'GET http://127.0.0.1/v2 HTTP/1.1\r\nhost: e\r\n\r\n'],
    ['a target of another form', 'GET v2 HTTP/1.1\r\nhost: e\r\n\r\n'],
    ['a target with a NUL', 'GET /v2\0 HTTP/1.1\r\nhost: e\r\n\r\n'],
    ['a long target', `GET /${'v'.repeat(20_000)} HTTP/1.1\r\nhost: e\r\n\r\n`],
    ['a target above itself', 'GET /v2/../../etc/passwd HTTP/1.1\r\nhost: e\r\n\r\n'],
    ['a target above itself, in percent', 'GET /v2/%2e%2e/%2e%2e/ HTTP/1.1\r\nhost: e\r\n\r\n'],
    ['a target that is no percent', 'GET /v2/models/%ff%fe HTTP/1.1\r\nhost: e\r\n\r\n'],
    ['an unknown method', 'PWN /v2 HTTP/1.1\r\nhost: e\r\n\r\n'],
    ['a method in small letters', 'get /v2 HTTP/1.1\r\nhost: e\r\n\r\n'],
    ['a long method', `${'G'.repeat(20_000)} /v2 HTTP/1.1\r\nhost: e\r\n\r\n`],
    ['TRACE', 'TRACE /v2 HTTP/1.1\r\nhost: e\r\n\r\n'],
    ['OPTIONS for all', 'OPTIONS * HTTP/1.1\r\nhost: e\r\n\r\n'],
    ['CONNECT', 'CONNECT 169.254.169.254:80 HTTP/1.1\r\nhost: e\r\n\r\n'],
    ['an upgrade', post('connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0')],
    [
      'an upgrade to HTTP/2',
      get('connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAAA'),
    ],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'],
    ['HTTP/0.9', 'GET /v2\r\n'],
    ['another version', 'GET /v2 HTTP/1.9\r\nhost: e\r\n\r\n'],
    ['an answer', 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'],
    ['an interim answer', 'HTTP/1.1 100 Continue\r\n\r\n'],
    ['an unknown expectation', post('expect: 200-ok\r\ncontent-length: 4', 'null')],
    ['a wait for permission, and then no body', post('expect: 100-continue\r\ncontent-length: 400')],
    [
      'a body behind a GET',
      `GET /v2 HTTP/1.1\r\nhost: e\r\ncontent-length: ${hidden.length}\r\n\r\n${hidden}`,
    ],
    ['more headers than are kept', post(`${'x:y\r\n'.repeat(3_000)}content-length: 4`, `null${hidden}`)],
    ['nothing but line ends', '\r\n'.repeat(10_000)],
    ['TLS inside TLS', '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03'.repeat(100)],
    ['a flood behind one another', 'GET /v2/health/live HTTP/1.1\r\nhost: e\r\n\r\n'.repeat(2_000)],
    ['a flood of refusals', 'GET /nowhere HTTP/1.1\r\nhost: e\r\n\r\n'.repeat(2_000)],
  ];
  return texts.map(([name, text]) => ({ name, bytes: Buffer.from(text, 'latin1') }));
}

export function hostileJson({ tensors, input, text }: HostileTargets): readonly HostileRequest[] {
  const smuggled = `{"name":"${input}","datatype":"FP32","shape":[1,4],"data":[${SMUGGLED},1,1,1]}`;
  const bodies: readonly (readonly [string, string | Buffer])[] = [
    ['depth', '['.repeat(100_000)],
    ['depth of objects', '{"a":'.repeat(20_000)],
    [
      'depth in the data',
      `{"inputs":[{"name":"${input}","datatype":"FP32","shape":[1],"data":${'['.repeat(60)}1${']'.repeat(60)}}]}`,
    ],
    ['a member twice', `{"inputs":[],"inputs":[${smuggled}]}`],
    ['a member twice, escaped', `{"inputs":[],"\\u0069nputs":[${smuggled}]}`],
    ['a prototype', `{"__proto__":{"inputs":[${smuggled}]}}`],
    ['a constructor', `{"constructor":{"prototype":{"inputs":[${smuggled}]}}}`],
    [
      'a prototype in the parameters',
      `{"inputs":[${smuggled}],"parameters":{"__proto__":{"binary_data_output":true}}}`,
    ],
    ['a lone surrogate', `{"id":"\\ud800","inputs":[${smuggled}]}`],
    ['a byte order mark', `\ufeff{"inputs":[${smuggled}]}`],
    ['no UTF-8', Buffer.from([0x7b, 0x22, 0xc0, 0x80, 0x22, 0x3a, 0x31, 0x7d])],
    ['a control character in a string', `{"id":"a\u0001","inputs":[${smuggled}]}`],
    ['a comma too many', `{"inputs":[${smuggled},]}`],
    ['a comment', `{"inputs":[${smuggled}]/**/}`],
    ['something behind it', `{"inputs":[${smuggled}]} x`],
    ['two documents', `{"inputs":[${smuggled}]}{"inputs":[${smuggled}]}`],
    ['a string without end', '{"id":"'],
    ['many objects', `[${'{},'.repeat(20_000)}{}]`],
    ['many members', `{${Array.from({ length: 5_000 }, (_, i) => `"${i}":0`).join()}}`],
    [
      'a number of many digits',
      `{"inputs":[{"name":"${input}","datatype":"FP32","shape":[1],"data":[${'9'.repeat(10_000)}]}]}`,
    ],
    [
      'a number beyond doubles',
      `{"inputs":[{"name":"${input}","datatype":"FP32","shape":[1],"data":[1e999]}]}`,
    ],
    ['NaN', `{"inputs":[{"name":"${input}","datatype":"FP32","shape":[1],"data":[NaN]}]}`],
    ['nothing', 'null'],
    ['a list', '[]'],
  ];
  const chat = (more: string): string =>
    `{"model":"${text}","messages":[{"role":"user","content":"x"}],${more}}`;
  const chats: readonly (readonly [string, string])[] = [
    [
      'a prototype in a schema',
      chat('"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"__proto__":{}}}}'),
    ],
    [
      'a schema that refers to itself',
      chat('"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"$ref":"#"}}}'),
    ],
    [
      'a schema of great depth',
      chat(
        `"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":${'{"items":'.repeat(30)}{}${'}'.repeat(30)}}}`,
      ),
    ],
    ['more tokens than there may be', chat('"max_completion_tokens":9007199254740991')],
    ['a negative number of tokens', chat('"max_completion_tokens":-1')],
    ['a seed beyond integers', chat('"seed":1e300')],
    ['a temperature beyond doubles', chat('"temperature":1e999')],
    ['many stops', chat(`"stop":[${'"x",'.repeat(1_000)}"x"]`)],
    ['an empty stop', chat('"stop":[""]')],
    ['many answers', chat('"n":1000000')],
    ['a role of its own', `{"model":"${text}","messages":[{"role":"__proto__","content":"x"}]}`],
    [
      'a prompt beyond the context',
      `{"model":"${text}","messages":[{"role":"user","content":"${'word '.repeat(20_000)}"}]}`,
    ],
  ];
  return [
    ...bodies.map(([name, body]) => posted(`/v2/models/${tensors}/infer`, name, body)),
    ...chats.map(([name, body]) => posted('/v1/chat/completions', name, body)),
  ];
}

export function hostileTensors({ tensors, input }: HostileTargets): readonly HostileRequest[] {
  const path = `/v2/models/${tensors}/infer`;
  const inJson = (name: string, more: object): HostileRequest =>
    posted(
      path,
      name,
      JSON.stringify({
        inputs: [{ name: input, datatype: 'FP32', shape: [1, 4], data: [SMUGGLED, 1, 1, 1], ...more }],
      }),
    );
  const floats = Buffer.from(Float32Array.of(SMUGGLED, 1, 1, 1).buffer);
  const inBinary = (
    name: string,
    more: object,
    data: Uint8Array,
    headLength?: (actual: number) => string,
  ) => {
    const head = Buffer.from(
      JSON.stringify({
        inputs: [
          {
            name: input,
            datatype: 'FP32',
            shape: [1, 4],
            parameters: { binary_data_size: data.length },
            ...more,
          },
        ],
      }),
    );
    const headers = [
      'content-type: application/octet-stream',
      `inference-header-content-length: ${headLength?.(head.length) ?? head.length}`,
    ];
    return posted(path, name, Buffer.concat([head, data]), headers);
  };
  const size = (value: unknown): object => ({ parameters: { binary_data_size: value } });
  const bytes = { datatype: 'BYTES', shape: [1] };
  const lengthOf = (length: number, rest = ''): Buffer => {
    const prefix = Buffer.alloc(4);
    prefix.writeUInt32LE(length);
    return Buffer.concat([prefix, Buffer.from(rest)]);
  };
  return [
    inJson('a negative dimension', { shape: [-1, -4] }),
    inJson('a dimension of zero', { shape: [0, 4] }),
    inJson('a dimension that is no integer', { shape: [0.5, 8] }),
    inJson('a dimension beyond integers', { shape: [2 ** 53, 4] }),
    inJson('dimensions whose product wraps to the right size', { shape: [2 ** 30, 2 ** 34, 4] }),
    inJson('dimensions whose product is 2 to the 64 and some', { shape: [2 ** 32 + 1, 2 ** 32, 4] }),
    inJson('dimensions beyond memory', { shape: [1e9, 4] }),
    inJson('many dimensions', { shape: Array.from({ length: 10_000 }, () => 1) }),
    inJson('fewer values than the shape says', { data: [SMUGGLED] }),
    inJson('more values than the shape says', { data: [SMUGGLED, 1, 1, 1, 1] }),
    inJson('values of another kind', { data: [SMUGGLED, true, null, '1'] }),
    inJson('a datatype from the prototype', { datatype: 'toString' }),
    inJson('a half without a form in JSON', { datatype: 'FP16' }),
    inBinary('a negative size', size(-16), floats),
    inBinary('a size beyond integers', size(2 ** 53), floats),
    inBinary('a size in text', size('16'), floats),
    inBinary('a size beyond the body', size(1 << 20), floats),
    inBinary('a size below the body', size(4), floats),
    inBinary('a size that is no multiple', {}, floats.subarray(0, 15)),
    inBinary('data in two places', { data: [SMUGGLED, 1, 1, 1] }, floats),
    inBinary('a length of the JSON beyond the body', {}, floats, (actual) => String(actual + 1000)),
    inBinary('a length of the JSON in its middle', {}, floats, (actual) => String(actual - 1)),
    inBinary('a negative length of the JSON', {}, floats, () => '-1'),
    inBinary('a length of the JSON with an exponent', {}, floats, () => '1e2'),
    inBinary('a length of the JSON beyond integers', {}, floats, () => '99999999999999999999'),
    inBinary('an element longer than all', bytes, lengthOf(0xffff_ffff)),
    inBinary('an element longer than its data', bytes, lengthOf(100, 'short')),
    inBinary('a length without its end', bytes, Buffer.from([1, 0])),
    inBinary('more elements than the shape says', bytes, Buffer.concat([lengthOf(1, 'a'), lengthOf(1, 'b')])),
  ];
}

function posted(
  path: string,
  name: string,
  body: string | Uint8Array,
  headers: readonly string[] = ['content-type: application/json'],
): HostileRequest {
  const bytes = Buffer.from(body);
  const head = [
    `POST ${path} HTTP/1.1`,
    'host: e',
    ...headers,
    `content-length: ${bytes.length}`,
    '',
    '',
  ].join('\r\n');
  return { name, bytes: Buffer.concat([Buffer.from(head), bytes]) };
}
