"""What the query encoder learns words from: synonyms of every sound, and names of strangers.

A stranger is something that a listener may well ask for and that no separator here knows; what
stands in no list is refused as far as what is learned here reaches.
"""

from __future__ import annotations

from collections.abc import Mapping

SYNONYMS: Mapping[str, str] = {
    "speech": (
        "speech; voice; voices; talking; a person talking; people talking; man speaking; "
        "woman speaking; child speaking; conversation; dialogue; someone speaking; a man "
        "talking; a woman talking; human voice; spoken words; speaker; talker; narration; "
        "chatter; human speech; the person speaking; what they say; people; person; man; "
        "woman; men; women; words; my friend"
    ),
    "dog_bark": (
        "dog bark; dog; dogs; a dog; barking; dog barking; puppy; puppy barking; woof; "
        "hound; dogs barking; bark; canine; yelping; the neighbour's dog; dog growling; "
        "howling dog; puppies"
    ),
    "rain": (
        "rain; raining; rainfall; rain falling; rain drops; raindrops; heavy rain; "
        "drizzle; downpour; rain on a roof; pouring rain; rainstorm; shower of rain"
    ),
    "sea_waves": (
        "sea waves; waves; sea; ocean; ocean waves; surf; waves crashing; beach; waves "
        "breaking on the shore; seaside; seashore; waves lapping; crashing waves"
    ),
    "baby_cry": (
        "baby cry; baby crying; crying baby; baby; infant; infant crying; the baby; "
        "crying; newborn crying; babies; child crying; toddler crying; sobbing; wailing "
        "baby"
    ),
    "clock_tick": (
        "clock tick; clock; ticking; clock ticking; tick tock; wall clock; watch ticking; "
        "ticking clock; timer ticking; tick"
    ),
    "sneeze": "sneeze; sneezing; person sneezing; someone sneezes; achoo; sneezes; man sneezing",
    "helicopter": (
        "helicopter; chopper; helicopter flying; rotor; rotor blades; helicopters; "
        "helicopter hovering; rotorcraft"
    ),
    "chainsaw": (
        "chainsaw; chain saw; saw; sawing; chainsaw cutting wood; power saw; cutting down "
        "a tree; sawing wood; motor saw"
    ),
    "rooster": (
        "rooster; crowing; rooster crowing; cock; cockerel; cock-a-doodle-doo; chicken; "
        "rooster crows; hen; crow of a rooster"
    ),
    "fire_crackling": (
        "fire crackling; crackling fire; fire; campfire; fireplace; bonfire; flames; "
        "crackling; burning wood; logs burning; fire burning"
    ),
    "drums": (
        "drums; drum; drum kit; percussion; drummer; drumming; beat; snare; kick drum; "
        "hi-hat; cymbals; tabla"
    ),
    "bass": "bass; bass guitar; bassist; electric bass; bass line; double bass",
    "guitar": (
        "guitar; guitars; electric guitar; acoustic guitar; guitarist; strumming; guitar "
        "strumming; guitar solo"
    ),
    "piano": "piano; keyboard; pianist; electric piano; grand piano; piano playing; piano keys",
    "strings": (
        "strings; string section; violin; violins; cello; orchestra; choir; synth pad; "
        "string ensemble; fiddle"
    ),
    "winds": (
        "winds; flute; organ; woodwind; pipe; harmonica; wind instrument; pan flute; "
        "woodwinds"
    ),
    "other_music": (
        "synthesizer; synth; electronic music; samples; sound effects; xylophone; loop"
    ),
    "smoke_alarm": (
        "smoke alarm; smoke detector; fire alarm; smoke alarm beeping; fire detector; "
        "smoke alarms"
    ),
    "co_alarm": (
        "co alarm; carbon monoxide alarm; carbon monoxide detector; gas alarm; gas "
        "detector; co detector"
    ),
    "siren": (
        "siren; sirens; police siren; ambulance; ambulances; ambulance siren; fire "
        "engine; fire truck; police car; emergency vehicle; emergency siren; wailing "
        "siren; fire engine siren"
    ),
    "car_horn": (
        "car horn; horn; honking; horns; car honking; honk; beeping car; hooting; truck "
        "horn; vehicle horn; vehicle horn honking"
    ),
    "doorbell": (
        "doorbell; door bell; ding dong; door chime; chime; ringing "
        "doorbell"
    ),
    "phone_ring": (
        "phone ring; telephone; phone; phone ringing; ringtone; telephone ringing; mobile "
        "phone; cell phone; ringing phone; my phone"
    ),
    "appliance_beep": (
        "appliance beep; beep; beeping; microwave; microwave beeping; oven timer; washing "
        "machine beep; dishwasher beep; beeps; appliance"
    ),
    "alarm_clock": (
        "alarm clock; wake up alarm; alarm clock ringing; bedside alarm; morning alarm"
    ),
    "noise": (
        "noise; background noise; hiss; hum; static; white noise; fan; air conditioning; "
        "background; room noise; hissing; humming"
    ),
    "music": (
        "music; song; songs; a band; band; musical instruments; instruments; melody; "
        "tune; music playing; instrumental; background music; the band"
    ),
    "alarm": (
        "alarm; alarms; alert; alerts; warning; warning sounds; warnings; any alarm; "
        "alarm ringing; emergency; alarm sounds; safety alarms"
    ),
    "animal": "animal; animals; pets; pet; farm animals; animal sounds",
    "water": "water; water flowing; flowing water; splashing; splashing water",
    "engine": (
        "engine; motor; vehicle engine; car engine; truck engine; engine running; "
        "machine; machines; machinery; motors; engines; traffic; vehicle; vehicles; aircraft"
    ),
    "everything": "everything; all; all sounds; anything; every sound; the whole mix",
}  # fmt: skip
CARRIERS = (
    "{}", "the {}", "a {}", "sound of {}", "the sound of a {}", "{} noise", "{} sounds",
    "only the {}", "i want to hear the {}", "loud {}", "{} in the background", "{} nearby",
    "a {} in the distance",
)  # fmt: skip
STRANGERS = (
    "quantum physics; blue; happiness; table; tax return; football; election; pizza; the moon; "
    "purple elephant; keyboard shortcut; mathematics; red; chair; hello; asdf qwerty; xyzzy; "
    "applause; clapping; laughter; laughing; footsteps; glass breaking; keyboard typing; typing; "
    "cat meowing; cat; bird; birds singing; frog; insects; cow; horse; sheep; goat; duck; pig; "
    "train; airplane; plane; boat; motorcycle; race car; thunder; wind; "
    "wind blowing; strong wind; toilet flush; door slam; "
    "door; gun shot; gunshots; explosion; fireworks; whistle; whistling; snoring; coughing; cough; "
    "breathing; burping; hiccup; sewing machine; vacuum cleaner; drill; hammer; scissors; spray; "
    "frying food; dishes; paper; zipper; bicycle bell; church bells; skateboard; basketball; "
    "waterfall from far; bees; mosquito; owl; snake; wolf; tiger; lion; elephant; unknown thing; "
    "washing machine; dishwasher; blender; hair dryer; lawn mower; printer; camera; coins; "
    "a glass; windows; breaking; slamming; popcorn; water tap; bath; tractor; "
    "knocking; knock at the door; door closing; door opening; creaking door; car door; doors; "
    "typing on a keyboard; computer keyboard; keyboard clicks; mouse click; house keys; "
    "keys jingling; car; cars; a car passing; car starting; bus; truck; trucks; "
    "pickup truck; lorry; van; ship; bicycle; "
    "coffee machine; coffee maker; kettle; water boiling; boiling; tap; tap dripping; running; "
    "running feet; walking; steps; crow; crows; raven; pigeon; seagull; turkey; parrot; monkey; "
    "donkey; crickets; hummingbird; clock tower; church clock; triangle; gong; wind chimes; "
    "volume; volume up; louder; play; stop; pause; spoon; fork; knife; cutlery; cup; plate; lock; "
    "key in a lock; light switch; button; pouring; pouring water into a glass; drinking; eating; "
    "chewing; kiss; yawn; sigh; scream; screaming; shouting crowd; cheering; crane; forklift; "
    "bulldozer; jackhammer; axe; chopping wood; nails; welding; grinder; sandpaper; leaf blower; "
    "hail; snow; ice; river; stream; brook; bubbles; steam; fridge; oven; toaster; heater; shower; "
    "elevator; escalator; subway; tram; rocket; jet; drone; camera shutter; cash register; "
    "arcade; video game; laser; robot; alien; ghost; love; green; seven; tomorrow; yesterday; "
    "london; open the window; my birthday; banana; philosophy; the weather; paper tearing; pages; "
    "writing; pencil; balloon; bouncing ball; tennis; golf; rifle; pistol; cannon; bomb; zip; "
    "velcro; plastic bag; bottle; cork; can opening; straw; stairs; floor; furniture"
)
