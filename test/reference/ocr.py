"""Renders 40 lines of text for the character error of a text recognizer: ocr-lines.npz (x: uint8 grey, 40 x 48 x 320) and
ocr-lines.txt (what is written, one line each). Needs Pillow, NumPy and the DejaVu and Liberation fonts.

    python3 test/reference/ocr.py
"""
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

out = Path(__file__).parent / "fixtures"
fonts = [
    f"/usr/share/fonts/truetype/{f}.ttf"
    for f in (
        "dejavu/DejaVuSans",
        "liberation/LiberationSerif-Regular",
        "liberation/LiberationSans-Regular",
        "dejavu/DejaVuSansMono",
        "dejavu/DejaVuSerif-Italic",
        "liberation/LiberationMono-Bold",
        "liberation/LiberationSans-BoldItalic",
        "dejavu/DejaVuSansCondensed",
    )
]
lines = """The quick brown fox
jumps over the lazy dog
Invoice No. 20417-B
Total: $1,284.50
Platform 9, 14:35
Please mind the gap
Room 304 (3rd floor)
support@example.org
Open Mon-Fri 8:00-17:30
42 Wallaby Way, Sydney
ISBN 978-0-13-468599-1
Keep out of reach
Flight LH 2087 to Oslo
Net weight 250 g
Best before 2027-03-11
Handle with care
Order #66120 shipped
Half price on Tuesdays
Seat 27F, Gate B12
Version 3.14.159
Thank you for waiting
Temperature: -12.5 C
No entry beyond here
Call 555-0173 today
Lost and found office
Chapter Seventeen
Baggage claim area 4
Made in Switzerland
Exit only, no return
Balance due: 3,906.27
Push to open the door
Fresh bread every day
License XK-7719-QP
Meeting at half past six
Water the plants twice
Speed limit 60 km/h
Wash at 40 degrees
Two for the price of one
Winter timetable 2026
Return within 30 days""".split("\n")


def render(i, text):
    random = np.random.default_rng(i)
    background = int(random.integers(170, 256))
    ink = int(random.integers(0, 70))
    if i % 5 == 4:  # faint
        ink = background - int(random.integers(35, 60))
    size = 34
    while True:
        font = ImageFont.truetype(fonts[i % len(fonts)], size)
        left, top, right, bottom = font.getbbox(text)
        if right - left <= 306:
            break
        size -= 1
    image = Image.new("L", (320, 48), background)
    at = (int(random.integers(2, 10)) - left, (48 - (bottom - top)) // 2 - top)
    ImageDraw.Draw(image).text(at, text, fill=ink, font=font)
    if i % 3 == 1:
        image = image.rotate(float(random.uniform(-1.5, 1.5)), resample=Image.BICUBIC, fillcolor=background)
    if i % 4 == 2:
        image = image.filter(ImageFilter.GaussianBlur(1.2))
    pixels = np.asarray(image, dtype=np.float64)
    if i % 8 == 7:
        pixels = pixels + random.normal(0, 12, pixels.shape)
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


np.savez_compressed(out / "ocr-lines.npz", x=np.stack([render(i, t) for i, t in enumerate(lines)]))
(out / "ocr-lines.txt").write_text("\n".join(lines) + "\n")
