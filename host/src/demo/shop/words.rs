//! The words that the shop's names are made of. None needs escaping in JSON.

pub(super) const FIRST_NAMES: [&str; 40] = [
    "Ada", "Amir", "Anneke", "Aylin", "Bjarne", "Carla", "Chidi", "Dagny", "Davide", "Elif", "Emeka",
    "Farah", "Finn", "Greta", "Hana", "Ivo", "Jonas", "Kaito", "Katarina", "Lea", "Linh", "Luca",
    "Maja", "Marek", "Mina", "Nadia", "Nils", "Noor", "Oskar", "Paula", "Priya", "Rafael", "Ruth",
    "Sanna", "Siddharth", "Tamar", "Tomás", "Vera", "Yara", "Zoë",
];

pub(super) const LAST_NAMES: [&str; 40] = [
    "Abebe", "Almeida", "Andersen", "Bakker", "Banerjee", "Costa", "Demir", "Dubois", "Eriksson",
    "Fischer", "García", "Haddad", "Hansen", "Holm", "Ibrahim", "Ito", "Jansen", "Kaya", "Keller",
    "Kowalski", "Lindqvist", "Lopes", "Mbeki", "Moreau", "Nakamura", "Novak", "Nguyen", "Okafor",
    "Olsen", "Petrov", "Quist", "Rossi", "Sato", "Schmidt", "Silva", "Tanaka", "Varga", "Weber",
    "Yilmaz", "Zeman",
];

pub(super) const CITIES: [&str; 20] = [
    "Aarhus", "Basel", "Bergen", "Bilbao", "Bremen", "Gdańsk", "Ghent", "Graz", "Kraków", "Leiden",
    "Lille", "Ljubljana", "Malmö", "Nantes", "Porto", "Riga", "Tampere", "Trieste", "Uppsala", "Utrecht",
];

/// Categories, with what is sold in them.
pub(super) const GOODS: [(&str, &[&str]); 6] = [
    (
        "kitchen",
        &["Kettle", "Teapot", "Skillet", "Bread Knife", "Mixing Bowl", "Coffee Mill", "Casserole"],
    ),
    (
        "garden",
        &["Trowel", "Watering Can", "Bird Feeder", "Hose Reel", "Seed Tray", "Pruning Shears"],
    ),
    (
        "office",
        &["Desk Lamp", "Notebook", "Fountain Pen", "Letter Tray", "Stapler", "Wall Clock"],
    ),
    (
        "outdoor",
        &["Rucksack", "Tent Lantern", "Rain Jacket", "Flask", "Camp Stove", "Walking Poles"],
    ),
    (
        "home",
        &["Wool Blanket", "Cushion", "Candle Holder", "Door Mat", "Picture Frame", "Laundry Basket"],
    ),
    (
        "toys",
        &["Puzzle", "Kite", "Wooden Train", "Card Game", "Spinning Top", "Marble Run"],
    ),
];

pub(super) const KINDS: [&str; 24] = [
    "Alder", "Amber", "Basalt", "Birch", "Brass", "Cedar", "Clay", "Cobalt", "Copper", "Coral", "Flint",
    "Hazel", "Indigo", "Ivory", "Juniper", "Larch", "Linen", "Moss", "Olive", "Pebble", "Saffron", "Slate",
    "Walnut", "Willow",
];
