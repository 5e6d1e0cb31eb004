/** Hostile text in a policy, a Sid or an ARN must stay text, wherever a page shows it. */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Content, Html, html, visible } from '../../../review/html/html.ts';
import { htmlPage } from '../../../review/html/page.ts';
import {
  badge,
  banner,
  checkList,
  code,
  facts,
  listing,
  notes,
  section,
  table,
} from '../../../review/html/parts.ts';
import { box, dot, line, path, picture, text } from '../../../review/html/svg.ts';

const markup = (piece: Html) => Html.markupOf(piece);

const HOSTILE = [
  '<script>alert(1)</script>',
  '"><img src=x onerror=alert(1)>',
  "' onmouseover='alert(1)",
  '</title><script>alert(1)</script>',
  '</style><script>alert(1)</script>',
  '--><script>',
  '&lt;script&gt;',
  '`$(exit)`',
  '<svg/onload=alert(1)>',
  'javascript:alert(1)',
];

describe('a value in a template', () => {
  it.each(HOSTILE)('stays text in text and in attributes: %s', (hostile) => {
    const piece = markup(html`<p class="${hostile}">${hostile}</p>`);
    const [, attribute, content] = /^<p class="([^"<>]*)">([^<>]*)<\/p>$/.exec(piece) ?? [];
    expect(read(attribute)).toBe(hostile);
    expect(read(content)).toBe(hostile);
  });

  it('is never markup, whatever it is', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (value) => {
        const piece = markup(html`<b title="${value}">${value}</b>`);
        const [, attribute, content] = /^<b title="([^"<>]*)">([^<>]*)<\/b>$/.exec(piece) ?? [];
        expect(read(attribute)).toBe(visible(value));
        expect(read(content)).toBe(visible(value));
      }),
    );
  });

  it('may be a piece of a page, a list, or nothing', () => {
    const list: Content = [html`<i>${'a&b'}</i>`, null, undefined, false, ['<', 3]];
    expect(markup(html`<p>${list}</p>`)).toBe('<p><i>a&#38;b</i>&#60;3</p>');
  });

  it('cannot be a piece of a page in an attribute', () => {
    expect(() => html`<p class="${html`<i>x</i>`}"></p>`).toThrow(TypeError);
  });

  it('cannot say where a link leads, but to a place on the page or https', () => {
    for (const bad of [
      'javascript:alert(1)',
      ' https://x',
      'data:text/html,x',
      '//x',
      'http://x',
      'JaVaScRiPt:x',
    ]) {
      expect(() => html`<a href="${bad}">x</a>`, bad).toThrow(TypeError);
    }
    expect(markup(html`<a href="${'#finding-1'}">x</a>`)).toBe('<a href="#finding-1">x</a>');
    expect(markup(html`<a href="${'https://a.example/?b=1&c="'}">x</a>`)).toBe(
      '<a href="https://a.example/?b=1&#38;c=&#34;">x</a>',
    );
  });

  it('cannot pretend to be markup that was made elsewhere', () => {
    expect(() => new Html(Symbol('x'), '<script>')).toThrow(TypeError);
    const forged = Object.setPrototypeOf({ markup: '<script>' }, Html.prototype) as Html;
    expect(() => html`<p>${forged}</p>`).toThrow(TypeError);
  });
});

describe('what cannot be seen is spelt out', () => {
  it.each([
    ['a right-to-left override', 'role/\u202enimdA', 'role/⟨U+202E⟩nimdA'],
    ['an isolate', 'a\u2066b\u2069', 'a⟨U+2066⟩b⟨U+2069⟩'],
    ['a zero-width space', 'Ad\u200bmin', 'Ad⟨U+200B⟩min'],
    ['a soft hyphen', 'Ad\u00admin', 'Ad⟨U+00AD⟩min'],
    ['a byte order mark', '\ufeffx', '⟨U+FEFF⟩x'],
    ['a carriage return', 'a\rb', 'a⟨U+000D⟩b'],
    ['an escape', '\x1b[31m', '⟨U+001B⟩[31m'],
    ['a NUL', 'a\0', 'a⟨U+0000⟩'],
    ['a tag character', 'a\u{e0041}', 'a⟨U+E0041⟩'],
    ['a variation selector', 'a\u{e0100}\ufe0f', 'a⟨U+E0100⟩⟨U+FE0F⟩'],
    ['half a surrogate pair', 'a\ud800', 'a\ufffd'],
  ])('%s', (_what, given, shown) => expect(visible(given)).toBe(shown));

  it('and what can be seen is left alone', () => {
    const text = 'Schlüssel für Zürich: 鍵 🔑\t"a"\nb';
    expect(visible(text)).toBe(text);
  });
});

describe('a template that escaping would not make safe is refused', () => {
  it.each<[string, () => unknown]>([
    ['a value as an unquoted attribute', () => html`<p class=${'x'}></p>`],
    ['a value in single quotes', () => html`<p class='${'x'}'></p>`],
    ['a value as the name of an attribute', () => html`<p ${'onclick'}="1"></p>`],
    ['a value as the name of a tag', () => html`<${'script'}></p>`],
    ['a value in a tag', () => html`<p class="x"${'y'}></p>`],
    ['a script', () => html`<script>${'x'}</script>`],
    ['a style', () => html`<style>${'x'}</style>`],
    ['a comment', () => html`<!-- ${'x'} -->`],
    ['a handler', () => html`<p onclick="${'x'}"></p>`],
    ['a style attribute', () => html`<p style="${'x'}"></p>`],
    ['an image that is fetched', () => html`<img src="${'x'}">`],
    ['a link between namespaces', () => html`<use xlink:href="${'#x'}"/>`],
    ['a tag that is not closed', () => html`<p class="x"`],
  ])('%s', (_what, make) => expect(make).toThrow(TypeError));
});

describe('a page', () => {
  const everything = (hostile: string) =>
    htmlPage({
      title: hostile,
      body: [
        banner({ tone: 'bad', kicker: badge('bad', hostile), sentence: hostile, more: hostile }),
        section({ title: hostile, intro: hostile, id: hostile }, [
          facts([[hostile, hostile]]),
          notes([hostile]),
          checkList([{ outcome: 'failed', what: hostile, detail: hostile }]),
          listing([{ number: 1, text: hostile, tone: 'bad' }], hostile),
          table(hostile, [hostile], [[hostile]]),
          picture({ width: 10, height: 10, label: hostile, className: 'wide-only' }, [
            box({ x: 0, y: 0, width: 10, height: 10 }, 'frame'),
            line(0, 0, 10, 10, 'axis'),
            path('M0 0h10', 'wire'),
            dot(5, 5, 1, 'filled good'),
            text(1, 1, hostile, 'mono middle'),
          ]),
          code(hostile),
        ]),
      ],
    });

  it.each(HOSTILE)('has the same tags whatever is said on it: %s', (hostile) => {
    expect(tagsOf(everything(hostile))).toEqual(tagsOf(everything('quiet')));
  });

  it('allows its own style sheet, and nothing else', () => {
    const page = everything('x');
    const [, policy = ''] = /http-equiv="Content-Security-Policy" content="([^"]+)"/.exec(page) ?? [];
    const [, sheet = ''] = /<style>([\s\S]*?)<\/style>/.exec(page) ?? [];
    const hash = createHash('sha256').update(sheet).digest('base64');
    expect(policy).toBe(
      `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`,
    );
    expect(sheet).not.toMatch(/url\(|@import|<\//);
  });

  it('has no script and nothing to fetch', () => {
    const page = everything('x');
    expect(page).not.toMatch(/<(script|link|img|iframe|object|embed|base|form)\b/i);
    expect(page).not.toMatch(/\s(on\w+|style|src|srcset|data)=/i);
  });

  it('draws at numbers alone', () => {
    for (const place of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => dot(place, 0, 1, 'filled')).toThrow(TypeError);
    }
    expect(Html.markupOf(dot(1 / 3, 2, 1, 'filled'))).toBe('<circle class="filled" cx="0.33" cy="2" r="1"/>');
  });

  it('is the same bytes for the same content', () => {
    expect(everything('x')).toBe(everything('x'));
  });
});

function read(text = ''): string {
  return text.replaceAll(/&#(\d+);/g, (_, digits) => String.fromCharCode(Number(digits)));
}

/** Names of tags with the names of their attributes, in order. */
function tagsOf(page: string): string[] {
  return [...page.matchAll(/<(\/?[a-z!][\w-]*)([^<>]*)>/gi)].map(
    ([, name, attributes = '']) =>
      `${name} ${[...attributes.matchAll(/([\w:-]+)="[^"]*"/g)].map(([, one]) => one)}`,
  );
}
