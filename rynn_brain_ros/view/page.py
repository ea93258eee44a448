"""The look and the few interactions of reports and stories, inline in each of them."""

from __future__ import annotations

from rynn_brain_ros.view.colors import PALETTE, REFUSED, TURN_PALETTE, Color, rim_of


def _tint(selector: str, color: Color) -> str:
    rgb = ",".join(map(str, color))
    return f"{selector}{{--c:rgb({rgb});--tint:rgba({rgb},.2);--hot:rgba({rgb},.5)}}\n"


def _turn(selector: str, color: Color) -> str:
    rgb, ink = (",".join(map(str, c)) for c in (color, rim_of(color)))
    return f"{selector}{{--t:rgb({rgb});--tink:rgb({ink})}}\n"


def _stacked(table: str, narrower_px: int) -> str:
    """A line for each cell where the page is too narrow for the columns."""
    return f"""@media screen and (max-width:{narrower_px}px){{
{table} thead{{display:none}}
{table} tr{{display:block;padding:10px 0;border-bottom:1px solid var(--line)}}
{table} td{{display:grid;grid-template-columns:92px minmax(0,1fr);gap:10px;border:0;padding:2px 0;
white-space:normal;overflow-wrap:anywhere}}
{table} td::before{{content:attr(data-label);color:var(--soft);font:12px/1.7 var(--sans)}}
{table} .why{{min-width:0}}
}}
"""


_TINTS = "".join(_tint(f".c{i}", c) for i, c in enumerate(PALETTE)) + _tint(".cx", REFUSED)

STYLE = (
    """
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1c1e21;--soft:#5d636b;--line:#e2e3e1;
--fill:#f2f2ef;--warn:#a8430a;--warnbg:#fdf1e7;--good:#0b6e4f;
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans",sans-serif;
--mono:ui-monospace,"SF Mono","Cascadia Mono","DejaVu Sans Mono",Menlo,Consolas,monospace}
@media (prefers-color-scheme:dark){:root{--bg:#15171a;--card:#1c1f23;--ink:#e6e7e9;--soft:#9aa1aa;
--line:#30343a;--fill:#24282d;--warn:#f3a56b;--warnbg:#33241a;--good:#5cc9a0}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 var(--sans)}
body>header,main,body>footer{max-width:1180px;margin:0 auto;padding:0 28px}
body>header{padding-top:44px}
h1{font-size:28px;line-height:1.2;font-weight:650;letter-spacing:-.015em;margin:0}
h2{font-size:19px;line-height:1.35;font-weight:600;margin:2px 0 0;overflow-wrap:anywhere}
h3{font-size:12px;font-weight:600;color:var(--soft);margin:26px 0 8px;letter-spacing:.02em}
p{margin:0}
a{color:inherit;text-decoration-color:var(--soft);text-underline-offset:3px}
code,.mono{font-family:var(--mono);font-size:.87em}
.soft{color:var(--soft)}
.sub{color:var(--soft);font-size:16px;margin-top:6px}
.note,.problems{border-radius:8px;padding:11px 16px;margin-top:20px;background:var(--fill)}
.problems{background:var(--warnbg);color:var(--warn)}
.problems ul{margin:4px 0 0;padding-left:20px}
.tiles{display:flex;flex-wrap:wrap;gap:12px 44px;margin:26px 0 4px}
.tiles b{display:block;font-size:30px;font-weight:600;line-height:1.15;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}
.tiles span{color:var(--soft);font-size:13px}
.chip{display:inline-block;font:500 12px/1.7 var(--mono);padding:0 8px;border-radius:5px;
background:var(--fill);white-space:nowrap}
.chip.no{background:var(--warnbg);color:var(--warn)}
.chip.ok{color:var(--good)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:0;font-size:13.5px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:500;color:var(--soft);font-size:12px;padding:6px 14px 6px 0;
border-bottom:1px solid var(--line);white-space:nowrap}
td{padding:8px 14px 8px 0;border-bottom:1px solid var(--line);vertical-align:top}
tr>:last-child{padding-right:0}
td.mono{white-space:nowrap;line-height:1.7}
.index td:first-child{width:1%;color:var(--soft)}
.index td+td a{overflow-wrap:anywhere}
.query{background:var(--card);border:1px solid var(--line);border-radius:12px;margin:28px 0;
padding:24px 28px 26px;scroll-margin-top:12px}
.eyebrow{color:var(--soft);font-size:13px;display:flex;flex-wrap:wrap;gap:2px 14px;
align-items:baseline}
.eyebrow a{margin-left:auto}
.look{display:grid;grid-template-columns:minmax(0,3fr) minmax(260px,2fr);gap:0 32px}
figure{margin:0}
figure svg{display:block;width:100%;height:auto;border-radius:8px;background:var(--fill)}
figcaption{font-size:12.5px;color:var(--soft);margin-top:5px}
.keys figure+figure{margin-top:16px}
.strip{display:grid;grid-template-columns:repeat(auto-fill,minmax(108px,1fr));gap:10px 10px}
.strip figure svg{border-radius:5px}
.strip figcaption{font-size:11.5px;line-height:1.4;margin-top:3px}
.strip .key svg{outline:2px solid var(--ink);outline-offset:1px}
.strip .key figcaption{color:var(--ink)}
.look dl{margin-top:2px}
.said{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;font-size:16.5px;
line-height:1.75}
details{margin-top:16px}
summary{cursor:pointer;color:var(--soft);font-size:13.5px}
details .said{font-size:14.5px;margin:10px 0 14px;padding-left:14px;
border-left:2px solid var(--line)}
mark{color:inherit;background:var(--tint);box-shadow:inset 0 -2px var(--c);
border-radius:3px 3px 0 0;padding:2px 3px;
-webkit-box-decoration-break:clone;box-decoration-break:clone}
mark.cx{box-shadow:none;border-bottom:2px dashed var(--c)}
mark.bad{background:none;text-decoration:underline wavy var(--warn);text-underline-offset:4px}
[data-g]{cursor:pointer;transition:opacity .12s}
mark.hot,tr.hot td{background:var(--hot)}
tr.hot td{background:var(--fill)}
svg.over:has(.hot) g[data-g]:not(.hot){opacity:.15}
[data-g]:focus-visible{outline:2px solid var(--c,var(--ink));outline-offset:2px}
.dot{display:inline-block;min-width:20px;height:20px;padding:0 5px;border-radius:5px;
text-align:center;font:600 12px/20px var(--sans);background:var(--tint);
box-shadow:inset 0 0 0 1.5px var(--c);
margin-right:8px}
.cx .dot,.dot.cx{box-shadow:none;outline:1.5px dashed var(--c);outline-offset:-1.5px}
.kind{min-width:9.5em}
.why{max-width:46ch;min-width:18ch}
.over polyline,.over polygon,.over circle{stroke-linejoin:round;stroke-linecap:round}
.over text{font-family:var(--sans);font-weight:600}
.over image,.over use{image-orientation:none}
.store{position:absolute;width:0;height:0;overflow:hidden}
body>footer{color:var(--soft);font-size:12.5px;padding-bottom:40px}
@media screen and (max-width:860px){
body>header,main,body>footer{padding-left:14px;padding-right:14px}
body>header{padding-top:24px}
.query{padding:18px 14px;border-radius:10px}
.look{grid-template-columns:minmax(0,1fr)}
.strip{grid-template-columns:repeat(auto-fill,minmax(84px,1fr))}
}
"""
    + _stacked("table.wide", 860)
    + _stacked("table.groundings", 1120)
    + """
@media print{
:root{--bg:#fff;--card:#fff;--ink:#000;--soft:#555;--line:#ccc;--fill:#f3f3f3;--warn:#8a3500;
--warnbg:#fbefe6;--good:#0b6e4f;color-scheme:light}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
body{font-size:9.5pt}
table,dl{font-size:8pt}
.said{font-size:11pt}
td,th{padding-right:8px}
.why{min-width:0}
.look{grid-template-columns:minmax(0,3fr) minmax(0,2fr);gap:0 20px}
.strip{grid-template-columns:repeat(auto-fill,minmax(76px,1fr))}
body>header,main,body>footer{max-width:none;padding-left:0;padding-right:0}
.query{border:0;border-top:1px solid var(--line);border-radius:0;padding:16px 0}
.eyebrow a{display:none}
figure,tr,.problems,.note{break-inside:avoid}
h2,h3,.eyebrow,.strip{break-after:avoid}
}
"""
    + _TINTS
)

STORY_STYLE = (
    STYLE
    + """
:root{--ok:#0b6e4f;--okbg:#e5f3ec;--no:#a8430a;--nobg:#fdf1e7;--halt:#7a5a00;--haltbg:#fbf3d9}
@media (prefers-color-scheme:dark){:root{--ok:#5cc9a0;--okbg:#17302a;--no:#f3a56b;--nobg:#33241a;
--halt:#e3bd57;--haltbg:#302a18}}
.chip.ok{color:var(--ok);background:var(--okbg)}
.chip.halt{color:var(--halt);background:var(--haltbg)}
h2::first-letter{text-transform:uppercase}
h2 .chip{vertical-align:2px;margin-left:6px}
.verdict{display:flex;gap:14px;align-items:flex-start;border-radius:12px;padding:16px 20px;
margin-top:18px;overflow-wrap:anywhere}
.verdict b{font-size:19px;font-weight:650}
.verdict p{margin-top:2px}
.verdict .sign{flex:none;font:700 17px/30px var(--sans);width:30px;height:30px;border-radius:50%;
text-align:center;color:var(--card)}
.verdict.ok{background:var(--okbg)}.verdict.no{background:var(--nobg)}
.verdict.halt{background:var(--haltbg)}
.verdict.ok b,.sign.ok{color:var(--ok)}.verdict.no b,.sign.no{color:var(--no)}
.verdict.halt b{color:var(--halt)}
.verdict.ok .sign{background:var(--ok)}.verdict.no .sign{background:var(--no)}
.verdict.halt .sign{background:var(--halt)}
.scene{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:0 32px;
align-items:start;margin-top:6px}
.film video,.film img{display:block;width:100%;height:auto;border-radius:8px;background:#000}
.map svg{background:var(--card);border:1px solid var(--line)}
.pan{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:12px 14px 4px}
.pan svg{display:block;width:100%;min-width:760px;height:auto}
.map svg a,.pan svg a{text-decoration:none}
.index td{padding:6px 14px 6px 0}
.index td:last-child{text-align:right}
.badge{display:inline-block;min-width:22px;height:22px;padding:0 6px;border-radius:11px;
text-align:center;text-decoration:none;font:700 12.5px/22px var(--sans);background:var(--t);
color:var(--tink)}
.turn{border-top:4px solid var(--t)}
.turn .eyebrow{align-items:center}
.eyebrow .chip{white-space:normal}
.moves td{padding:5px 14px 5px 0}
.moves td p{display:inline}
.moves td p+p{margin-left:10px}
.moves td:first-child{width:1%;color:var(--soft)}
.moves .stages{margin:0}
.turn .problems{margin-top:14px}
.where td{padding:6px 14px 6px 0}
.checks td,.checks th{padding:4px 12px 4px 0}
.checks td+td+td{overflow-wrap:anywhere}
.checks td:first-child,.checks th:first-child{width:1%;padding-right:10px}
.checks tr.failed td{background:var(--nobg);color:var(--no);font-weight:600}
.move{grid-template-columns:minmax(0,1fr) minmax(0,1fr);border-top:1px solid var(--line);
margin-top:24px}
.move h3{margin-top:18px}
.stages{list-style:none;margin:8px 0 12px;padding:0;font-size:13.5px}
.stages li{position:relative;padding:2px 0 2px 22px;font-variant-numeric:tabular-nums}
.stages li::before{content:"";position:absolute;left:3px;top:8px;width:9px;height:9px;
border-radius:50%;box-shadow:inset 0 0 0 1.5px var(--soft)}
.stages li+li::after{content:"";position:absolute;left:7px;top:-5px;width:1.5px;height:12px;
background:var(--line)}
.stages .done::before{background:var(--t);box-shadow:none}
.stages .broke::before{background:var(--no);box-shadow:0 0 0 3px var(--nobg)}
.stages .broke b{color:var(--no)}
.stages b{font-weight:600}
.stages span{color:var(--soft)}
.stages .never{color:var(--soft)}
.stages .never b{font-weight:400}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:14px;
margin-top:22px}
.chart svg{background:var(--card);border:1px solid var(--line);padding:14px}
.scores .failed td:nth-child(2),.scores .failed td:nth-child(5){color:var(--no);font-weight:600}
.scores .won td:nth-child(2){color:var(--ok)}
.times{color:var(--soft);font-size:12.5px;margin-top:20px}
@media screen and (max-width:860px){
.move{grid-template-columns:minmax(0,1fr)}
.verdict{padding:14px}
}
@media print{.film{display:none}.pan svg{min-width:0}}
"""
    + "".join(_turn(f".t{i}", c) for i, c in enumerate(TURN_PALETTE))
)

SCRIPT = """
const same = g => document.querySelectorAll('[data-g="' + g + '"]');
const owner = e => e.target instanceof Element ? e.target.closest('[data-g]') : null;
const show = (e, on) => {
  const n = owner(e);
  if (n) same(n.dataset.g).forEach(m => m.classList.toggle('hot', on || m.dataset.pin === '1'));
};
for (const t of ['mouseover', 'focusin']) document.addEventListener(t, e => show(e, true));
for (const t of ['mouseout', 'focusout']) document.addEventListener(t, e => show(e, false));
const pin = e => {
  const n = owner(e);
  if (n) {
    const on = n.dataset.pin === '1' ? '' : '1';
    same(n.dataset.g).forEach(m => { m.dataset.pin = on; m.classList.toggle('hot', on === '1'); });
  }
};
document.addEventListener('click', pin);
document.addEventListener('keydown', e => { if (e.key === 'Enter') pin(e); });
addEventListener('beforeprint', () =>
  document.querySelectorAll('details').forEach(d => { d.open = true; }));
"""
