/**
 * Markup that is safe by construction. `html` escapes every value that stands in a template, and refuses a template
 * with a value where escaping would not help (outside text and double-quoted attributes). Hostile text in a policy, a
 * Sid or an ARN can therefore say what it likes and stays text.
 */

const MAKER = Symbol('only html makes Html');

/** A piece of a page. Text becomes one only by being escaped. */
export class Html {
  readonly #markup: string;

  constructor(maker: symbol, markup: string) {
    if (maker !== MAKER) throw new TypeError('only html makes Html');
    this.#markup = markup;
    Object.freeze(this);
  }

  static markupOf(piece: Html): string {
    return piece.#markup;
  }
}

/** What may stand in a template: text and numbers are escaped, lists joined, nothing is nothing. */
export type Content = Html | string | number | false | null | undefined | readonly Content[];

/**
 * html`<td class="${name}">${text}</td>`. Throws TypeError for a template that the page must not have: a value outside
 * text and double-quoted attributes, a script, a style, a comment, a handler. Such a template is a bug, never an input.
 */
export function html(parts: TemplateStringsArray, ...values: readonly Content[]): Html {
  const holes = holesOf(parts);
  let markup = parts[0] as string;
  for (const [index, value] of values.entries()) {
    const { attribute } = holes[index] as Hole;
    markup += attribute === undefined ? inText(value) : inAttribute(attribute, value);
    markup += parts[index + 1];
  }
  return new Html(MAKER, markup);
}

/**
 * Text as a person should see it: what has no shape of its own, or turns the direction of what follows, is spelt out
 * (Unicode TR36 section 2; CVE-2021-42574), because a reviewer must see what a machine reads.
 */
export function visible(text: string): string {
  return text.toWellFormed().replaceAll(INVISIBLE, (found) => {
    const hex = (found.codePointAt(0) as number).toString(16).toUpperCase().padStart(4, '0');
    return `⟨U+${hex}⟩`;
  });
}

/** Controls but tab and line feed, formats, what Unicode lets a display ignore, and separators of lines. */
const INVISIBLE = /(?![\t\n])[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2028\u2029]/gu;

function escaped(text: string): string {
  return visible(text).replaceAll(/[&<>"'`]/g, (found) => `&#${found.charCodeAt(0)};`);
}

function inText(value: Content): string {
  if (value instanceof Html) return Html.markupOf(value);
  if (Array.isArray(value)) return value.map(inText).join('');
  if (value === false || value === null || value === undefined) return '';
  return escaped(String(value));
}

function inAttribute(name: string, value: Content): string {
  if (typeof value !== 'string' && typeof value !== 'number') {
    throw new TypeError(`the attribute ${name} takes text`);
  }
  // Nobody's text chooses where a link goes.
  if (name === 'href' && !/^(#|https:\/\/)/.test(String(value))) {
    throw new TypeError(
      `a link leads to a place on the page or to https://, not to ${JSON.stringify(value)}`,
    );
  }
  return escaped(String(value));
}

interface Hole {
  /** The attribute whose value it is in; undefined in text. */
  readonly attribute: string | undefined;
}

const known = new WeakMap<TemplateStringsArray, readonly Hole[]>();

function holesOf(parts: TemplateStringsArray): readonly Hole[] {
  const found = known.get(parts) ?? readTemplate(parts);
  known.set(parts, found);
  return found;
}

const FORBIDDEN_TAGS =
  /^(script|style|iframe|object|embed|link|meta|base|form|noscript|xmp|plaintext|textarea|template)$/;
const FORBIDDEN_ATTRIBUTES = /^(on.*|style|src.*|action|formaction|xlink:href|ping|poster|data|background)$/;

/** Walks a template once: where its values stand, and that it has nothing that needs more than escaping. */
function readTemplate(parts: TemplateStringsArray): readonly Hole[] {
  const holes: Hole[] = [];
  let tag = false;
  let attribute: string | undefined;
  for (const [index, part] of parts.entries()) {
    for (let rest = part; rest !== ''; ) {
      if (attribute !== undefined) {
        const end = rest.indexOf('"');
        if (end === -1) break;
        attribute = undefined;
        rest = rest.slice(end + 1);
      } else if (tag) {
        const [whole = '', name, close] =
          /^\s*(?:([a-zA-Z][\w:-]*)(?:="|(?=[\s/>]))|(\/?>))/.exec(rest) ?? [];
        if (whole === '') throw wrong(part, 'an attribute is name="value" or a name alone');
        if (name !== undefined && FORBIDDEN_ATTRIBUTES.test(name.toLowerCase()))
          throw wrong(part, `no ${name}`);
        if (close !== undefined) tag = false;
        else if (whole.endsWith('="')) attribute = name?.toLowerCase();
        rest = rest.slice(whole.length);
      } else {
        const start = rest.indexOf('<');
        if (start === -1) break;
        const [whole = '', name = ''] = /^<\/?([a-zA-Z][\w-]*)/.exec(rest.slice(start)) ?? [];
        if (whole === '') throw wrong(part, 'a "<" begins a tag; write &lt;');
        if (FORBIDDEN_TAGS.test(name.toLowerCase())) throw wrong(part, `no <${name}>`);
        tag = true;
        rest = rest.slice(start + whole.length);
      }
    }
    if (index === parts.length - 1) break;
    if (tag && attribute === undefined) throw wrong(part, 'a value stands in text or in a quoted attribute');
    holes.push({ attribute });
  }
  if (tag) throw wrong(parts.at(-1) ?? '', 'a tag is not closed');
  return holes;
}

function wrong(part: string, why: string): TypeError {
  return new TypeError(`not a template for a page: ${why} (near ${JSON.stringify(part.slice(-60))})`);
}
